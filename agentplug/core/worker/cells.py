"""Run cells of code, one after another, in one namespace (worker side).

`core.session` sends each cell as the input of a call. A cell is compiled as plain Python, without IPython's syntax. A
last expression is its value, unless a semicolon follows it.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import linecache
import re
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import Any

from agentplug.contract.display import MAX_REPR, TEXT
from agentplug.core.boundary import codec as values

_SHOWS_FIGURES = re.compile(r"[ \t]*%matplotlib([ \t]+\w+)?[ \t]*(#.*)?")
_PLAIN = (type(None), bool, int, float, str)


class CellsPlugin:
    """Runs each cell with the variables of those before it."""

    name = "sandbox cell"
    version = ""
    last_coroutine: Any = None
    """A last value that nobody awaited: it lives on as in a notebook, and warns of nothing here."""

    def __init__(self) -> None:
        self._module = ModuleType("__main__")
        sys.modules["__main__"] = self._module  # where pickle and dataclasses look for what a cell defines

    async def initialize(self, config: dict[str, Any]) -> None:
        """Prepare nothing."""

    def process(self, cell: dict[str, Any]) -> Any:
        """Run a cell; return its last value and the variables that it is asked for.

        Return a coroutine only for a cell that awaits: any other may then run a loop of its own.
        """
        code, file_name = cell["code"], cell["file"]
        linecache.cache[file_name] = (len(code), None, code.splitlines(keepends=True), file_name)
        body, last = _compile(code, file_name)
        names = self._module.__dict__
        names.update(cell["given"])
        if any(part is not None and part.co_flags & inspect.CO_COROUTINE for part in (body, last)):
            return _run_awaiting(body, last, names, cell["out"])
        exec(body, names)
        return _answer(names, None if last is None else eval(last, names), cell["out"])


def _compile(cell: str, file_name: str) -> tuple[CodeType, CodeType | None]:
    """Compile the cell's statements, and its last expression if that is to be shown."""
    cell, tree = _parsed(cell, file_name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not _is_hidden(cell, tree.body[-1]):
        expression = tree.body.pop()
        assert isinstance(expression, ast.Expr)
        last = compile(ast.Expression(expression.value), file_name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    return compile(tree, file_name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True), last


def _parsed(cell: str, file_name: str) -> tuple[str, Any]:
    """Return a cell and its syntax tree. A line `%matplotlib inline` becomes `pass`: figures are shown anyway."""
    while True:
        try:
            return cell, compile(cell, file_name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
        except SyntaxError as error:
            lines, number = cell.split("\n"), (error.lineno or 0) - 1
            if not 0 <= number < len(lines) or not _SHOWS_FIGURES.fullmatch(lines[number]):
                raise
            lines[number] = lines[number].partition("%")[0] + "pass"
            cell = "\n".join(lines)


def _is_hidden(cell: str, last: ast.Expr) -> bool:
    """True if a semicolon follows `last`, as in `ax.plot(…);`: notebooks then hide the value."""
    lines = cell.encode().splitlines(keepends=True)
    rest = b"".join(lines[(last.end_lineno or 1) - 1 :])[last.end_col_offset or 0 :]
    return rest.lstrip(b" \t\r\n)").startswith(b";")


async def _run_awaiting(
    body: CodeType, last: CodeType | None, names: dict[str, Any], wanted: Sequence[str]
) -> dict[str, Any]:
    result = eval(body, names)
    if inspect.isawaitable(result):
        await result
    value = None
    if last is not None:
        value = eval(last, names)
        if last.co_flags & inspect.CO_COROUTINE:
            value = await value
    return _answer(names, value, wanted)


def _answer(names: dict[str, Any], value: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """Return the reply: the last value, the wanted variables, and for each one that isn't there a name like it.

    A last value without a plain form is described; of a wanted variable without one the type's name is returned.
    """
    there = {name: names[name] for name in wanted if name in names}
    missing = {name: _near(name, names) for name in wanted if name not in names}
    unsendable = {name: kind for name, wanted_value in there.items() if (kind := _misfit(wanted_value))}
    described = None
    if inspect.iscoroutine(value):
        CellsPlugin.last_coroutine = value
    if kind := _misfit(value):
        value, described = None, _described(value, kind)
    return {
        "last value": value,
        "described": described,
        "-o": {name: there[name] for name in there.keys() - unsendable.keys()},
        "missing": missing,
        "unsendable": unsendable,
    }


def _misfit(value: Any) -> str:
    """Return the name of a type that can't leave the worker in `value`, or an empty text."""
    if type(value) in _PLAIN:
        return ""
    try:
        values.encode(value)
    except values.Unserializable as misfit:
        return misfit.type[:200] or type(value).__name__[:200]
    return ""


def _described(value: Any, kind: str) -> dict[str, Any]:
    """Display a value as a notebook does, if it has more than its text. Return its type and its text."""
    from agentplug.core.worker import forms, showing

    form = forms.form_of(value)
    if form is not None and form.mime != TEXT:
        showing.send(form)
        if forms.is_figure(value) and (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
            pyplot.close(value)  # else it would be shown a second time, at the end
    text = forms.text_form(value) if form is None or form.mime != TEXT else form
    return {
        "type": kind,
        "text": text.body.decode()[: MAX_REPR + 1],
        "is_displayed": form is None or form.mime != TEXT,
    }


def _near(name: str, names: dict[str, Any]) -> str:
    candidates = [other for other in names if isinstance(other, str) and not other.startswith("_")]
    return next(iter(difflib.get_close_matches(name, candidates, 1, cutoff=0.7)), "")
