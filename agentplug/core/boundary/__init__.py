"""Code of both host and worker: frames, their channel, the value codec."""
