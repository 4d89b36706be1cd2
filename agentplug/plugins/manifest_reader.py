"""Reads the manifest in a plugin's code, without running that (worker side).

The reader is itself a confined plugin, since its parser gets untrusted text.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Mapping
from typing import Any

_FIELDS = ("name", "version", "hooks", "asks", "why")
_NOTHING = object()


class ManifestReaderPlugin:
    """Reads name, version, hooks, asked rights and reasons of a plugin class, or of a `[tool.agentplug]` table.

    The input is a dict: `code` (bytes), `attribute` (a class's name or ''), and `toml` (text) with `plugin`, whose
    table `[tool.agentplug.PLUGIN]` or else `[tool.agentplug]` overrides the class. Returns a dict of the fields, or
    `{"problem": text}`.
    """

    name = "manifest_reader"
    version = "1.0"

    def initialize(self, config: Mapping[str, Any]) -> None:
        """Configure nothing."""

    def process(self, input_data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the class and of the table, or the problem."""
        try:
            fields = _of_class(input_data["code"], input_data["attribute"])
            if input_data.get("toml"):
                fields |= _of_table(input_data["toml"], input_data.get("plugin", ""))
        except (SyntaxError, ValueError, RecursionError, _Unreadable) as error:
            return {"problem": str(error) or type(error).__name__}
        return fields


class _Unreadable(Exception):
    pass


def _of_table(text: str, plugin: str) -> dict[str, Any]:
    table = tomllib.loads(text).get("tool", {}).get("agentplug", {})
    if not isinstance(table, dict):
        return {}
    own = table.get(plugin)
    merged = {**table, **own} if isinstance(own, dict) else table
    return {field: merged[field] for field in _FIELDS if field in merged}


def _of_class(code: bytes, attribute: str) -> dict[str, Any]:
    tree = ast.parse(code)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    constants = _assignments(tree.body, {})
    if attribute:
        wanted = classes.get(attribute)
        if wanted is None:
            raise _Unreadable(f"no class {attribute} stands at the top level")
    else:
        matches = [c for c in classes.values() if c.name.endswith("Plugin") and not _is_abstract(c)]
        if len(matches) != 1:
            names = ", ".join(c.name for c in matches) or "none"
            raise _Unreadable(f"it needs one class whose name ends in Plugin at the top level, and has {names}")
        wanted = matches[0]
    return _fields(wanted, classes, constants, 0)


def _fields(
    wanted: ast.ClassDef, classes: dict[str, ast.ClassDef], constants: dict[str, Any], depth: int
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for base in reversed(wanted.bases):
        if isinstance(base, ast.Name) and base.id in classes and depth < 20:
            fields |= _fields(classes[base.id], classes, constants, depth + 1)
    own = _assignments(wanted.body, constants)
    for field in _FIELDS:
        if field in own:
            if own[field] is _NOTHING:
                raise _Unreadable(f"{field} of class {wanted.name} is computed; write it as a literal")
            fields[field] = own[field]
    return fields


def _assignments(body: list[ast.stmt], constants: dict[str, Any]) -> dict[str, Any]:
    """Return the last value of each name that `body` assigns; `_NOTHING` for one that isn't a literal."""
    values: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            _bind(node.target, node.value, values, constants)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                _bind(target, node.value, values, constants)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            values[node.name] = _NOTHING
        elif not isinstance(node, (ast.Expr, ast.Pass, ast.Import, ast.ImportFrom)):
            for inner in ast.walk(node):  # under an if or in a loop, which may not run
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, (ast.Store, ast.Del)):
                    values[inner.id] = _NOTHING
    return values


def _bind(target: ast.expr, value: ast.expr, values: dict[str, Any], constants: dict[str, Any]) -> None:
    if isinstance(target, ast.Name):
        values[target.id] = _literal(value, {**constants, **values})
    elif isinstance(target, (ast.Tuple, ast.List)):
        items = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        fits = len(items) == len(target.elts)
        for i, part in enumerate(target.elts):
            _bind(part, items[i] if fits else ast.Name("", ast.Load()), values, constants)


def _literal(value: ast.expr, constants: dict[str, Any]) -> Any:
    if isinstance(value, ast.Name):
        return constants.get(value.id, _NOTHING)
    try:
        if isinstance(value, ast.Call):
            return _call(value, constants)
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _NOTHING


def _call(call: ast.Call, constants: dict[str, Any]) -> Any:
    """Evaluate `dict.fromkeys(NAMES, KIND)` or `TEXT.split()` of literals, as plugins use for many hook points."""
    function = call.func
    if not isinstance(function, ast.Attribute) or call.keywords or len(call.args) > 2:
        return _NOTHING
    arguments = [_literal(argument, constants) for argument in call.args]
    if any(one is _NOTHING for one in arguments):
        return _NOTHING
    of = function.value
    if isinstance(of, ast.Name) and of.id == "dict" and "dict" not in constants:
        return dict.fromkeys(*arguments) if function.attr == "fromkeys" and len(arguments) == 2 else _NOTHING
    text = _literal(of, constants)
    return text.split() if function.attr == "split" and isinstance(text, str) and not arguments else _NOTHING


def _is_abstract(wanted: ast.ClassDef) -> bool:
    names = {base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in wanted.bases}
    marked = any("abstractmethod" in ast.dump(d) for n in wanted.body for d in getattr(n, "decorator_list", ()))
    return bool(names & {"Protocol", "ABC"}) or marked or any(name.endswith(("Error", "Exception")) for name in names)
