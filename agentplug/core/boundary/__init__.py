"""All that host and worker both know: frames, the channel they pass through, the value codec."""
