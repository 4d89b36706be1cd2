"""What is kept of a session's calls (host)."""
