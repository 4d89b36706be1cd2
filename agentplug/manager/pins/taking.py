"""Read a plugin as it is now (host): its source, and a pin of the same bytes."""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from packaging.tags import interpreter_name, interpreter_version

from agentplug.contract.text import printable
from agentplug.core.sources.cell import cell_source
from agentplug.core.sources.digest import digest_of
from agentplug.core.sources.files import file_source, read_once
from agentplug.core.sources.interpreter import installed_roots, is_under
from agentplug.core.sources.modules import find_module
from agentplug.core.sources.names import near_match, quoted, quoted_path
from agentplug.core.sources.resolve import named_file, named_module, resolve
from agentplug.core.sources.source import Module, Source
from agentplug.core.sources.tree import Place
from agentplug.errors import PluginNotFound, SpecError
from agentplug.manager.pins.closures import HOST, owner_of, verified_closure
from agentplug.manager.pins.pin import Pin, portable, sha256
from agentplug.manager.pins.trees import ReadTree, check_name

_CELL = ".ipynb#"
_MAGIC = "%%load_plugin"
_MAX_TABLE = 1 << 16


def python_tag() -> str:
    """Return the tag of this interpreter, like cp311."""
    return interpreter_name() + interpreter_version()


class UnpinnableSource(SpecError):
    """The spec names a plugin whose bytes differ from session to session."""


class Candidate(NamedTuple):
    """A plugin as it is now, to be pinned or verified: the source to run, and a pin without the manifest's part."""

    source: Source
    pin: Pin
    metadata: str = ""  # a TOML text with a table [tool.agentplug], of a distribution that has one
    announced: str = ""  # the entry point's name
    unix_digests: Mapping[str, str] = MappingProxyType({})  # of files with Windows line ends, as if they had \n


def take(spec: object, home: str) -> Candidate:
    """Read the plugin that `spec` names. Paths in the pin are relative to `home`, the lock's folder.

    Raises `SpecError` and `PluginNotFound` as `resolve` does, and `SpecError` for a plugin that can't be pinned.
    """
    if isinstance(spec, Source):
        return _cell(spec) if spec.kind == "cell" else take(spec.spec, home)
    if isinstance(spec, str) and _CELL in spec:
        return _notebook_cell(spec, home)
    if (place := named_file(spec)) is not None:
        return _file(*place, home)
    if not isinstance(spec, str):
        raise UnpinnableSource(
            f"{resolve(spec).spec} lives in this session alone, and is pickled into other bytes in each; to pin "
            "it, put it into a file or into a %%load_plugin cell"
        )
    return _module(spec)


def refers_to(pin: Pin, candidate: Candidate) -> bool:
    """Return True if `pin` belongs to this spec. Cells are compared by name alone, not by notebook."""
    if candidate.pin.kind == "cell" and pin.kind == "cell":
        return pin.entry == candidate.pin.entry
    return pin.spec == candidate.pin.spec


def spec_of(pin: Pin, home: str) -> str:
    """Return the spec of `pin`'s plugin, with an absolute path if it is a path."""
    if pin.spec.startswith(("./", "~/")):
        return os.path.join(home, pin.spec[2:]) if pin.spec[0] == "." else os.path.expanduser(pin.spec)
    return pin.spec


def _file(path: str, attribute: str, home: str) -> Candidate:
    location = _location(path, home)
    spec = f"{location}:{attribute}" if attribute else location
    source = file_source(path, attribute, spec)
    name, code = os.path.basename(path), source.modules[0].code
    pin = Pin("", spec, "file", entry_of(source), source.digest, files={name: sha256(code)})
    return Candidate(source, pin, unix_digests=_unix_digests({name: code}))


def _module(spec: str) -> Candidate:
    """Read a module: its installed distribution, or all files of its package if it isn't installed."""
    dotted, attribute, announced, full_spec = named_module(spec)
    place = find_module(dotted)
    unread = Source(full_spec, "module", "", dotted, attribute)
    path = place.chain[-1].path
    roots = installed_roots()
    if dotted.partition(".")[0] == HOST:
        return _own(unread, place.chain[-1])
    if is_under(os.path.realpath(path), roots):
        return _installed(unread, path, announced)
    if any(is_under(os.path.realpath(portion), roots) for portion in place.top_directories):
        raise SpecError(
            f"a part of the package {quoted(dotted.partition('.')[0])} is installed and another part isn't, so "
            "neither can be pinned alone; install all of it, or name the plugin's file"
        )
    top, tree = dotted.partition(".")[0], ReadTree()
    if place.top_directories:
        for portion in place.top_directories:
            tree.add_directory(portion, top)
    else:
        tree.add_file(path, os.path.basename(path))
    modules = tree.modules()
    if not any(module.name == dotted for module in modules):
        raise PluginNotFound(f"the module {quoted(dotted)} is gone from {quoted_path(path)}; was it just moved?")
    source = replace(unread, modules=modules, digest=tree.digest)
    pin = Pin("", unread.spec, "tree", entry_of(source), tree.digest, files=tree.files)
    return Candidate(source, pin, announced=announced, unix_digests=_unix_digests(tree.code))


def _own(unread: Source, place: Place) -> Candidate:
    """Read a plugin that comes with agentplug: only its module, since workers have the rest already."""
    tree = ReadTree()
    tree.add_file(place.path, place.name.replace(".", "/") + ".py")
    modules = tuple(module for module in tree.modules() if module.name == place.name)
    source = replace(unread, modules=modules, digest=tree.digest)
    return Candidate(source, Pin("", unread.spec, "tree", entry_of(source), tree.digest, files=tree.files))


def _installed(unread: Source, path: str, announced: str) -> Candidate:
    """Read a plugin in an installed distribution: the distribution and its dependencies."""
    info = owner_of(os.path.realpath(path))
    if info is None:
        raise UnpinnableSource(
            f"{quoted_path(path)} is installed, but no distribution's RECORD lists it, so nobody knows what belongs "
            "to it; install it with pip, or name its file"
        )
    verified = verified_closure(info)
    root = verified.root
    relative = os.path.relpath(os.path.realpath(path), root.site)
    if relative not in root.content:
        raise SpecError(f"{quoted_path(path)} is no Python file of {quoted(root.name)}; install it again")
    closure = {key: other.closed for key, other in verified.others.items()}
    parts = [(root.key, root.closed), *closure.items(), *sorted(root.files.items())]
    digest = digest_of((name, text.encode()) for name, text in parts)
    module = Module(unread.entry, path, root.content[relative], os.path.basename(path) == "__init__.py")
    source = replace(unread, modules=(module,), digest=digest, closure=verified.closure)
    pin = Pin(
        *("", unread.spec, "distribution", entry_of(source), digest),
        distribution=f"{root.name} {root.version}",
        record=root.record,
        python=python_tag(),
        platform=sysconfig.get_platform().replace("-", "_").replace(".", "_"),
        files=root.files,
        closure=closure,
    )
    tables = (text for name, text in sorted(root.content.items()) if name.endswith("agentplug.toml"))
    return Candidate(source, pin, next(tables, b"").decode("utf-8", "replace")[:_MAX_TABLE], announced)


def _cell(source: Source) -> Candidate:
    return Candidate(source, Pin("", source.spec, "cell", source.entry, source.digest))


def _notebook_cell(spec: str, home: str) -> Candidate:
    """Read the cell of a notebook that begins with `%%load_plugin NAME`."""
    path, _, name = spec.rpartition("#")
    absolute = os.path.abspath(os.path.expanduser(path))
    location = _location(absolute, home)
    texts = _plugin_cells(absolute)
    if name not in texts:
        known = ", ".join(map(quoted, texts)) or "none"
        hint = near_match(name, texts) or f"; it has {known}"
        raise PluginNotFound(f"no cell of {quoted_path(absolute)} begins with {_MAGIC} {printable(name, 80)}{hint}")
    source = cell_source(texts[name], name)
    return Candidate(source, replace(_cell(source).pin, spec=f"{location}#{name}"))


def _plugin_cells(path: str) -> dict[str, str]:
    try:
        cells = json.loads(read_once(path))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SpecError(f"{quoted_path(path)} is no notebook; a notebook is JSON of format 4") from None
    texts = {}
    for text in sources:
        first, _, body = text.partition("\n")
        words = first.split()
        if len(words) > 1 and words[0] == _MAGIC:
            texts[words[1]] = body if body.endswith("\n") else f"{body}\n"  # as IPython passes it to the magic
    return texts


def _unix_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the digests that files with Windows line ends would have with Unix ones."""
    return {name: sha256(code.replace(b"\r\n", b"\n")) for name, code in files.items() if b"\r\n" in code}


def entry_of(source: Source) -> str:
    """Return `MODULE` or `MODULE:Class`."""
    return f"{source.entry}:{source.attribute}" if source.attribute else source.entry


def _location(path: str, home: str) -> str:
    """Return a file's path as a lock in `home` has it. Raises `SpecError` for a path that isn't UTF-8."""
    location = os.path.join(portable(os.path.realpath(os.path.dirname(path)), home), os.path.basename(path))
    check_name(location, location)
    return location
