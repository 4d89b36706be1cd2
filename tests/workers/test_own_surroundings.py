"""What ordinary code expects around it: a home, a temporary directory, a user with a name."""

from __future__ import annotations

import os
from typing import Any

import pytest

from agentplug import Policy, SandboxedPlugin


class AskingPlugin:
    name, version = "asking", "1"

    async def initialize(self, config: dict[str, Any]) -> None: ...

    async def process(self, expression: str) -> Any:
        import getpass
        import os
        import pathlib
        import pwd
        import tempfile

        modules = {"getpass": getpass, "os": os, "pathlib": pathlib, "pwd": pwd, "tempfile": tempfile}
        return eval(expression, modules)


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("getpass.getuser()", "plugin"),
        ("pwd.getpwuid(os.getuid()).pw_name", "plugin"),
        ("pwd.getpwnam('plugin').pw_uid", os.getuid()),
        ("pwd.getpwuid(os.getuid()).pw_dir == os.getcwd()", True),
        ("os.environ.pop('HOME') == os.path.expanduser('~') or True", True),
        ("str(pathlib.Path.home()) == os.path.expanduser('~') == os.getcwd()", True),
        ("tempfile.gettempdir() == os.getcwd() == os.environ['TMPDIR']", True),
        ("tempfile.mkstemp()[1].startswith(os.getcwd())", True),
    ],
)
async def test_a_plugin_has_a_user_a_home_and_a_temporary_directory(expression: str, answer: Any) -> None:
    """Which are its scratch directory, whoever runs it."""
    async with SandboxedPlugin(AskingPlugin) as plugin:
        assert await plugin.process(expression) == answer


async def test_other_users_are_not_there() -> None:
    """The password database stays out of reach."""
    async with SandboxedPlugin(AskingPlugin) as plugin:
        run = await plugin.run("pwd.getpwnam('daemon')")

    assert str(run.verdict) == "failed:KeyError"


async def test_a_policys_variables_come_on_top() -> None:
    """Also in the place of those that every plugin has."""
    async with SandboxedPlugin(AskingPlugin, Policy(env={"USER": "somebody", "LOGNAME": "somebody"})) as plugin:
        assert await plugin.process("getpass.getuser()") == "somebody"
