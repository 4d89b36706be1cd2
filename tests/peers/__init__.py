"""The battery against other ways of running untrusted code: `python -m tests.peers`, with the extra `peers`.

`ways` holds each peer's way, as strict as its documentation allows; `inside` is what runs in there; `host` is the
process that uses the peer, a throwaway one for each attack; `__main__` sets the stage, judges and prints the table.
"""
