"""Resolve a spec, a path or an object to a `Source` (host).

A spec string is read in this order:

1. It contains a `/`, or the part before an optional `:Class` ends in `.py`: a path to a file.
2. It is a bare name, without dot and colon: the entry point of that name in the group `agentplug.plugins` if an
   installed package announces one, else the top-level module of that name. `NAME:Class` always means the module.
3. Otherwise a dotted module on `sys.path`, with an optional `:Class`.

Nothing of a plugin is imported, compiled or run on the way.
"""

from __future__ import annotations

import os

from agentplug.contract.text import printable
from agentplug.core.sources.names import check_class_name, near_match, quoted
from agentplug.core.sources.source import Source
from agentplug.errors import PluginNotFound, SpecError

MAX_SPEC_CHARACTERS = 4096

_FORMS = "write 'pkg.mod', 'pkg.mod:Class', './file.py', or the name of an entry point"


def resolve(spec: object, *, base: str | None = None) -> Source:
    """Return the source of `spec`: a spec string, a path, a class, an instance, or a `Source`, which is returned.

    A relative path counts from `base`, or from the current directory; `~` is expanded. A class or an instance is
    pickled by value. Raises `SpecError` for a wrong spec or an unusable file, `PluginNotFound` (a SpecError) if there
    is no such plugin, `ContractError` for an object that isn't a plugin.
    """
    if isinstance(spec, Source):
        return spec
    if isinstance(spec, os.PathLike):
        return _from_path(_checked(_text_of(spec)), base)
    if not isinstance(spec, str):
        from agentplug.core.sources.objects import object_source

        return object_source(spec)
    text = _checked(spec)
    if _is_path(text):
        return _from_path(text, base)
    return _from_name(text)


def _text_of(path: os.PathLike[str] | os.PathLike[bytes]) -> str:
    try:
        text = os.fspath(path)
    except TypeError as error:
        raise SpecError(f"the path has no text ({printable(str(error), 200)}); pass its text") from None
    if not isinstance(text, str):
        raise SpecError("a path made of bytes can't be a spec; make it text with os.fsdecode(path)")
    return text


def _checked(text: str) -> str:
    if not text.strip():
        raise SpecError(f"the spec is empty; {_FORMS}")
    if "\0" in text:
        raise SpecError(f"spec {quoted(text)} holds a NUL character, which no path or module name may; {_FORMS}")
    if len(text) > MAX_SPEC_CHARACTERS:
        raise SpecError(f"the spec has {len(text):,} characters, the most is {MAX_SPEC_CHARACTERS:,}; {_FORMS}")
    return text


def _split_path(text: str) -> tuple[str, str | None]:
    """Split `path:Class` into path and class (None for none). A file's name may contain colons too."""
    path, colon, attribute = text.rpartition(":")
    if colon and "/" not in attribute and not attribute.endswith(".py"):
        return path, attribute
    return text, None


def named_file(spec: object, base: str | None = None) -> tuple[str, str] | None:
    """Return absolute path and class ('' for none) of a spec of the first kind; None for other specs."""
    text = _text_of(spec) if isinstance(spec, os.PathLike) else spec
    if not isinstance(text, str) or not (isinstance(spec, os.PathLike) or _is_path(_checked(text))):
        return None
    return _located(_checked(text), base)


def _is_path(text: str) -> bool:
    return "/" in text or _split_path(text)[0].endswith(".py")


def _from_path(text: str, base: str | None) -> Source:
    from agentplug.core.sources.files import file_source

    return file_source(*_located(text, base), _encodable(text))


def _located(text: str, base: str | None) -> tuple[str, str]:
    path, attribute = _split_path(text)
    if attribute is not None:
        check_class_name(attribute, text)
    if "://" in path:
        raise SpecError(
            f"spec {quoted(text)} is an address, and plugins aren't downloaded; save the file and name it"
        )
    try:
        absolute = os.path.abspath(os.path.join(base or "", os.path.expanduser(path)))
    except OSError:
        raise SpecError(
            f"spec {quoted(text)} counts from the current directory, which is gone; write an absolute path"
        ) from None
    except UnicodeEncodeError:  # of the user's name behind a ~
        raise SpecError(f"spec {quoted(text)} holds a character that no path can; {_FORMS}") from None
    return absolute, attribute or ""


def named_module(spec: str) -> tuple[str, str, str, str]:
    """Return module, class and entry point ('' for none) of a spec of the other kinds, and its text for tables.

    Doesn't look for the module. Raises `SpecError` and `PluginNotFound`.
    """
    text = _checked(spec)
    dotted, colon, attribute = text.partition(":")
    if colon:
        if not dotted:
            raise SpecError(f"spec {quoted(text)} names no module before its colon; write MODULE:Class")
        check_class_name(attribute, text)
    elif "." not in text and (announced := _entry_point(text)) is not None:
        return *announced, text, _encodable(text)
    if dotted.startswith("."):
        raise SpecError(f"spec {quoted(text)} is relative, and there is nothing it could be relative to; {_FORMS}")
    parts = dotted.split(".")
    if "" in parts:
        raise SpecError(f"spec {quoted(text)} has an empty name between or after its dots; {_FORMS}")
    for part in parts:
        if not part.isidentifier():
            if len(parts) == 1 and not colon:
                hint = _near_entry_point(text) or f"; {_FORMS}"
                raise PluginNotFound(f"{quoted(text)} is no entry point, and can't be a module's name{hint}")
            raise SpecError(f"spec {quoted(text)}: {quoted(part)} can't be a module's name; {_FORMS}")
    return dotted, attribute, "", _encodable(text)


def _from_name(text: str) -> Source:
    from agentplug.core.sources.modules import module_source

    dotted, attribute, announced, label = named_module(text)
    try:
        return module_source(dotted, attribute, label)
    except PluginNotFound as error:
        bare = not (announced or attribute or "." in dotted)
        if not bare or not (hint := _near_entry_point(text)):
            raise
        raise PluginNotFound(f"there is no module or entry point {quoted(text)}{hint}") from error


def _entry_point(name: str) -> tuple[str, str] | None:
    from agentplug.core.sources.entrypoints import find_entry_point

    return find_entry_point(name)


def _near_entry_point(name: str) -> str:
    from agentplug.core.sources.entrypoints import announced

    return near_match(name, [point for point, _, _ in announced()])


def _encodable(text: str) -> str:
    """Return `text` for tables and frames: with escapes if it comes from a file's name that isn't UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
