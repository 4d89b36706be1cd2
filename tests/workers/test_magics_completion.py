"""Completion of the names of loaded plugins."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from tests.unit.test_magics_completion import offered

SHY = """
class ShyPlugin:
    name = "shy"
    version = "1"
    async def initialize(self, config): ...
    async def process(self, x): ...
"""


def test_plugin_names_are_offered(ip: InteractiveShell) -> None:
    """`%unload_plugin`, `%reload_plugin` and --plugin offer the plugins that are loaded."""
    for name in ("shy", "shyer", "bold"):
        ip.run_cell_magic("load_plugin", name, SHY)
    assert offered(ip, "%unload_plugin ") == {"shy", "shyer", "bold"}
    assert offered(ip, "%reload_plugin sh") == {"shy", "shyer"}
    assert offered(ip, "%%sandbox --plugin b") == {"bold"}
    ip.run_line_magic("unload_plugin", "bold")
    assert "bold" not in offered(ip, "%unload_plugin ")


def test_session_names_are_offered(ip: InteractiveShell) -> None:
    """Where one may stand: not behind `%reload_plugin`."""
    ip.run_cell_magic("load_plugin", "shy", SHY)
    ip.run_cell_magic("sandbox", "--keep work", "x = 1")
    assert offered(ip, "%%sandbox --keep ") == {"work"}
    assert offered(ip, "%unload_plugin ") == {"shy", "work"}
    assert offered(ip, "%reload_plugin ") == {"shy"}
    assert offered(ip, "%%sandbox --plugin ") == {"shy"}
