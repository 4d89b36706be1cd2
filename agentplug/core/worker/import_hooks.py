"""Adjust a few libraries as a plugin imports them, so that they work as in a notebook (worker side).

None is imported for it. Matplotlib draws into displays; IPython's `display` is that of the worker; a notebook's
progress bar is a terminal's; rich has colours.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def _display_functions(module: ModuleType) -> Iterator[None]:
    yield
    from agentplug.core.worker import showing

    for name in ("display", "update_display", "publish_display_data", "clear_output", "DisplayHandle"):
        setattr(module, name, getattr(showing, name))


@contextlib.contextmanager
def _matplotlib(module: Any) -> Iterator[None]:
    yield
    if "MPLBACKEND" not in os.environ:
        module.rcParams["backend"] = "module://agentplug.core.worker.figures"


@contextlib.contextmanager
def _font_manager(module: ModuleType) -> Iterator[None]:
    """Give Matplotlib the zygote's list of fonts. Without one, spare it what a worker may not do: ask fc-list for
    fonts, whose folders it searches too, write the list, and warn."""
    from agentplug.core.worker.fonts import open_list

    logger = logging.getLogger("matplotlib.font_manager")
    level, check_output = logger.level, subprocess.check_output
    logger.setLevel(logging.ERROR)
    subprocess.check_output = _no_program
    vars(module)["open"] = open_list
    try:
        yield
    finally:
        vars(module).pop("open", None)
        subprocess.check_output = check_output
        logger.setLevel(level)


def _no_program(*args: Any, **options: Any) -> Any:
    raise FileNotFoundError


@contextlib.contextmanager
def _tqdm_notebook(module: Any) -> Iterator[None]:
    yield
    from tqdm import std

    module.tqdm = module.tqdm_notebook = std.tqdm
    module.trange = module.tnrange = std.trange


@contextlib.contextmanager
def _rich_console(module: Any) -> Iterator[None]:
    """Let rich colour what it prints, and draw what moves only once: a stream has colours, and no cursor."""
    yield
    from agentplug.core.worker.displays import CountedText

    console = module.Console
    is_terminal, control = console.is_terminal.fget, console.control

    def is_ours(self: Any) -> bool:
        return self._force_terminal is None and isinstance(self.file, CountedText)

    console.is_terminal = property(lambda self: is_ours(self) or is_terminal(self))
    console.control = lambda self, *codes: None if is_ours(self) else control(self, *codes)
    console.__init__.__kwdefaults__["force_interactive"] = False


_HOOKS: dict[str, Callable[[Any], contextlib.AbstractContextManager[None]]] = {
    "IPython.core.display_functions": _display_functions,
    "matplotlib": _matplotlib,
    "matplotlib.font_manager": _font_manager,
    "rich.console": _rich_console,
    "tqdm.notebook": _tqdm_notebook,
}


class _Finder:
    """Finds these modules as the other finders do, and runs a hook around their code."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        hook = _HOOKS.get(name)
        if hook is None:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    _run_within(spec.loader, name, hook)
                return spec
        return None


def _run_within(loader: Any, name: str, hook: Callable[[Any], contextlib.AbstractContextManager[None]]) -> None:
    """Have `loader` run the code of the module `name` within `hook`."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        if module.__name__ != name:  # a loader of several modules
            execute(module)
            return
        with hook(module):
            execute(module)

    loader.exec_module = exec_module


def install() -> None:
    """Run the hooks of modules that are there already, from the zygote, and those of later ones as they come."""
    sys.meta_path.insert(0, _Finder())
    for name, hook in _HOOKS.items():
        if (module := sys.modules.get(name)) is not None:
            with hook(module):
                pass
