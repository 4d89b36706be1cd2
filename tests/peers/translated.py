"""An attack of the zoo in RestrictedPython's language, which has no coroutines, annotations or imports (host)."""

from __future__ import annotations

import ast
import importlib.util
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

_INPLACE: dict[str, Callable[[Any, Any], Any]] = {
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
    "//=": operator.ifloordiv,
    "%=": operator.imod,
    "**=": operator.ipow,
    "<<=": operator.ilshift,
    ">>=": operator.irshift,
    "|=": operator.ior,
    "&=": operator.iand,
    "^=": operator.ixor,
}


class _Synchronous(ast.NodeTransformer):
    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        plain = ast.FunctionDef(node.name, node.args, node.body, node.decorator_list, None)
        return self._bare(ast.copy_location(plain, node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        return self._bare(node)

    def _bare(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            argument.annotation = None
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        return node.value

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value is not None else None

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.bases = []
        return node


def translate(spec: str) -> str:
    """The class of `spec`, and what its module defines beside it, without imports."""
    module, _, name = spec.partition(":")
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    tree = ast.parse(Path(found.origin).read_text())
    wanted = [
        node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(node, ast.ClassDef) and (node.name == name or node.name.startswith("_")))
    ]
    needed = {node.id for item in wanted for node in ast.walk(item) if isinstance(node, ast.Name)}
    named = [node for node in wanted if node.name == name or node.name in needed]
    plain = _Synchronous().visit(ast.Module(named, []))
    return ast.unparse(ast.fix_missing_locations(plain))


def run_restricted(spec: str, given: Any) -> Any:
    """Compile it with RestrictedPython and call it."""
    from RestrictedPython import (
        compile_restricted,
        limited_builtins,
        safe_builtins,
        utility_builtins,
    )
    from RestrictedPython.Eval import default_guarded_getitem, default_guarded_getiter
    from RestrictedPython.Guards import full_write_guard, guarded_iter_unpack_sequence, safer_getattr
    from RestrictedPython.PrintCollector import PrintCollector

    name = spec.partition(":")[2]
    scope = {
        "__builtins__": safe_builtins | utility_builtins | limited_builtins,
        "__name__": "attack",
        "__metaclass__": type,
        "_getattr_": safer_getattr,
        "_getitem_": default_guarded_getitem,
        "_getiter_": default_guarded_getiter,
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "_write_": full_write_guard,
        "_inplacevar_": lambda kind, left, right: _INPLACE[kind](left, right),
        "_print_": PrintCollector,
    }
    exec(compile_restricted(translate(spec), "<attack>", "exec"), scope)
    return scope[name]().process(given)  # type: ignore[operator]
