"""A framework's messages as parts, and parts back into its messages (host), one file each."""
