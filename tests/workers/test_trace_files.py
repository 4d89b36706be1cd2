"""A trace's file in a process that made no trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

from agentplug.report.accessor import attached
from agentplug.report.files import save_trace
from tests.unit.test_trace_files import calls

attached(pd.DataFrame())  # makes `df.agentplug` known


def test_a_saved_trace_has_its_accessor_once_read(tmp_path: Path) -> None:
    """In a new process, where no trace was made yet."""
    path = save_trace(calls(), tmp_path / "trace.parquet")
    code = "import agentplug, sys; assert 'pandas' not in sys.modules\n"
    code += f"print(agentplug.read_trace({str(path)!r}).agentplug.over_limit()['run'].tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[1]"
