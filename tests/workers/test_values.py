"""Values in a Python of their own: with another recursion limit, and without the libraries that a value may need."""

from __future__ import annotations

import subprocess
import sys


def test_high_recursion_limit_opens_no_way_to_the_stack() -> None:
    """Users raise the recursion limit in notebooks; a deep structure then must not overflow the C stack."""
    code = (
        "import sys; sys.setrecursionlimit(10**8)\n"
        "from agentplug.core.boundary.codec import DecodeError, decode\n"
        "for level in (b'\\x91', b'\\x81\\xa0', b'\\xc9\\x00\\x0f\\xff\\xff\\x05\\x91', b'\\x91\\x81\\xa0'):\n"
        "    try: decode((level * 2**20)[:2**20])\n"
        "    except DecodeError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n" * 4)


def test_encoding_and_decoding_plain_values_imports_no_numpy() -> None:
    """A worker that sends plain values doesn't pay for numpy, nor for pandas."""
    code = (
        "import sys\n"
        "from agentplug.core.boundary.codec import decode, encode\n"
        "decode(encode({'a': (1, b'x', {2})}).structure)\n"
        "print(sorted({'numpy', 'pandas', 'pickle'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"
