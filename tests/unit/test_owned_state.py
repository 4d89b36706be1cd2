"""State of the host's objects: each attribute is written by the object itself, and others call its methods."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import agentplug.core.host

_HOST = Path(agentplug.core.host.__file__).parent
_MODULES = sorted(path.relative_to(_HOST).as_posix() for path in _HOST.rglob("*.py"))
_ALLOWED = {
    "launcher.py": ["self.process.returncode"],  # of a Popen, which has no method for it
    "conversation.py": ["error._render_traceback_"],  # IPython's way to show an interrupt in one line
}


def _writes(tree: ast.AST) -> Iterator[str]:
    """Find attributes of other objects that are assigned or deleted, whole or by item."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            target = node.value if isinstance(node, ast.Subscript) else node
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) != "self":
                yield ast.unparse(target)


@pytest.mark.parametrize("module", _MODULES)
def test_a_module_of_the_host_writes_no_attribute_of_another_object(module: str) -> None:
    """Who wrote a value is plain from its class, so a lock can be shown to guard it."""
    assert list(_writes(ast.parse((_HOST / module).read_text()))) == _ALLOWED.get(module, [])


@pytest.mark.parametrize(
    "line", ["a.b = 1", "a.b += 1", "a.b: int = 1", "del a.b", "a.b[0] = 1", "self.a.b = 1", "x, a.b = 1, 2"]
)
def test_a_write_in_any_form_would_be_seen(line: str) -> None:
    """The check above passes for want of writes, not for want of eyes."""
    assert [name.removeprefix("self.") for name in _writes(ast.parse(line))] == ["a.b"]
