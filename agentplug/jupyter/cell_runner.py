"""A notebook cell, run as a plugin (worker side). The host never imports this file; it sends its text.

`sandbox_cell` appends assignments of `CELL` (the user's text) and `WANTED`. The cell is compiled as plain Python,
without IPython's syntax. A last expression is the value, unless a semicolon follows it.
"""

import ast
import inspect
import linecache
import sys
from types import CodeType, ModuleType
from typing import Any

CELL = ""
FILE_NAME = "<sandbox cell>"
WANTED: tuple[str, ...] = ()


class SandboxCellPlugin:
    """Runs the cell with the variables of its input; returns the last value and the wanted variables."""

    name = "sandbox cell"
    version = ""

    async def initialize(self, config: dict[str, Any]) -> None:
        """Prepare nothing."""

    def process(self, variables: dict[str, Any]) -> Any:
        """Run the cell. Return a coroutine only for a cell that awaits: any other may then run a loop of its own."""
        linecache.cache[FILE_NAME] = (len(CELL), None, CELL.splitlines(keepends=True), FILE_NAME)
        body, last = _compile(CELL)
        module = ModuleType("__main__")
        sys.modules["__main__"] = module  # where pickle and dataclasses look for what the cell defines
        names = module.__dict__
        names.update(variables)
        if any(code is not None and code.co_flags & inspect.CO_COROUTINE for code in (body, last)):
            return _run_awaiting(body, last, names)
        exec(body, names)
        return _answer(names, None if last is None else eval(last, names))


def _compile(cell: str) -> tuple[CodeType, CodeType | None]:
    """Compile the cell's statements, and its last expression if that is to be shown."""
    tree = compile(cell, FILE_NAME, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not _is_hidden(cell, tree.body[-1]):
        expression = tree.body.pop()
        assert isinstance(expression, ast.Expr)
        last = compile(ast.Expression(expression.value), FILE_NAME, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    return compile(tree, FILE_NAME, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True), last


def _is_hidden(cell: str, last: ast.Expr) -> bool:
    """True if a semicolon follows `last`, as in `ax.plot(…);`: notebooks then hide the value."""
    lines = cell.encode().splitlines(keepends=True)
    rest = b"".join(lines[(last.end_lineno or 1) - 1 :])[last.end_col_offset or 0 :]
    return rest.lstrip(b" \t\r\n)").startswith(b";")


async def _run_awaiting(body: CodeType, last: CodeType | None, names: dict[str, Any]) -> dict[str, Any]:
    result = eval(body, names)
    if inspect.isawaitable(result):
        await result
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
