"""A notebook cell, run as a plugin (worker side). Never imported by the host: this file's text is sent.

`sandbox_cell` appends the assignments of `CELL` (the user's text) and `WANTED` to it. The cell is compiled as it is,
without IPython's syntax; a last expression is the value, unless a semicolon follows it.
"""

import ast
import inspect
import linecache
import sys
from types import CodeType, ModuleType
from typing import Any

CELL = ""
SHOWN_AS = "<sandbox cell>"
WANTED: tuple[str, ...] = ()


class SandboxCellPlugin:
    """Binds the variables it is called with, runs the cell, and answers with its last value and the wanted ones."""

    name = "sandbox cell"
    version = ""

    async def initialize(self, config: dict[str, Any]) -> None:
        """Nothing to prepare."""

    def process(self, variables: dict[str, Any]) -> Any:
        """Run the cell; a coroutine for a cell that awaits, so that all others may run a loop of their own."""
        linecache.cache[SHOWN_AS] = (len(CELL), None, CELL.splitlines(keepends=True), SHOWN_AS)
        body, last = _compiled(CELL)
        module = ModuleType("__main__")
        sys.modules["__main__"] = module  # where pickle and dataclasses look for what the cell defines
        names = module.__dict__
        names.update(variables)
        if any(code is not None and code.co_flags & inspect.CO_COROUTINE for code in (body, last)):
            return _run_awaiting(body, last, names)
        exec(body, names)
        return _answer(names, None if last is None else eval(last, names))


def _compiled(cell: str) -> tuple[CodeType, CodeType | None]:
    """The cell's statements, and its last expression if it ends in one that is to be shown."""
    tree = compile(cell, SHOWN_AS, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not _silenced(cell, tree.body[-1]):
        expression = tree.body.pop()
        assert isinstance(expression, ast.Expr)
        last = compile(ast.Expression(expression.value), SHOWN_AS, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    return compile(tree, SHOWN_AS, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True), last


def _silenced(cell: str, last: ast.Expr) -> bool:
    """Whether a semicolon follows: `ax.plot(…);` is how notebooks say that a value isn't meant to be shown."""
    lines = cell.encode().splitlines(keepends=True)
    rest = b"".join(lines[(last.end_lineno or 1) - 1 :])[last.end_col_offset or 0 :]
    return rest.lstrip(b" \t\r\n)").startswith(b";")


async def _run_awaiting(body: CodeType, last: CodeType | None, names: dict[str, Any]) -> dict[str, Any]:
    done = eval(body, names)
    if inspect.isawaitable(done):
        await done
    value = None
    if last is not None:
        value = eval(last, names)
        if last.co_flags & inspect.CO_COROUTINE:
            value = await value
    return _answer(names, value)


def _answer(names: dict[str, Any], value: Any) -> dict[str, Any]:
    for name in WANTED:
        if name not in names:
            raise NameError(f"-o {name}: the cell left no variable of that name")
    return {"last value": value, "-o": {name: names[name] for name in WANTED}}
