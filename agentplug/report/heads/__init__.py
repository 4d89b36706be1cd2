"""The heads of data files from somebody else (host): how large they will be in memory, before anything is decoded.

A megabyte of parquet may hold 400 million rows, and a page or a buffer names its own size. So sizes are added up from
what the decoder goes by, each page's or buffer's own head, and not from a summary that may lie.
"""
