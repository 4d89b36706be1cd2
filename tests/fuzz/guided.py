"""The same target under libFuzzer, which looks for inputs that reach new code: `python -m tests.fuzz.guided`.

    pip install 'agentplug[fuzz]'
    python -m tests.fuzz.guided [FOLDER of inputs to keep] [-max_total_time=60] [libFuzzer's other options]

An input is a reply's structure and blobs behind one byte that chooses the kind of frame. atheris instruments
agentplug's bytecode alone; a crash or a slow input is written to the current directory by libFuzzer.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["agentplug"]):
    from agentplug.core.boundary import frames as wire
    from tests.fuzz.corpus import seeds
    from tests.fuzz.mutations import CALL, Case
    from tests.fuzz.target import play

ADDRESS_BYTES = 3 << 30
KINDS = (wire.REPLY, wire.ERROR, wire.LOADED, wire.UNSERIALIZABLE, wire.HELLO)


def input_of(kind: int, structure: bytes, blobs: bytes) -> bytes:
    """A frame as an input: kind, length of the structure, both parts."""
    return bytes([KINDS.index(kind)]) + len(structure).to_bytes(2, "little") + structure + blobs


def one(data: bytes) -> None:
    """Play one input as a well-formed frame: what libFuzzer finds is behind the header."""
    if len(data) < 3:
        return
    kind = KINDS[data[0] % len(KINDS)]
    cut = 3 + int.from_bytes(data[1:3], "little")
    structure, blobs = data[3:cut], data[cut:]
    head = wire.HEADER.pack(wire.MAGIC, kind, 0, CALL, len(structure), len(blobs))
    play(Case(head + structure + blobs, calls=0 if kind == wire.HELLO else 1))


def main() -> None:
    """Begin with the corpus, and go on until libFuzzer is told to stop."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    with tempfile.TemporaryDirectory(prefix="ap-corpus-") as folder:
        for at, seed in enumerate(seeds()):
            if seed.kind in KINDS:
                Path(folder, f"{at:03}").write_bytes(input_of(seed.kind, seed.structure, seed.blobs))
        atheris.Setup([*sys.argv, folder, "-timeout=5", "-rss_limit_mb=2048"], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
