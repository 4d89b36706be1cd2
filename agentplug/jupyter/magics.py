"""The magics (host). Each parses its line, asks the session, and returns a value that a notebook can show.

They are plain functions, since IPython has no async magics: coroutines run on a loop of agentplug's own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics
from IPython.display import display

from agentplug.contract.display import Described
from agentplug.contract.limits import FIELDS
from agentplug.contract.policy import Policy
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.session import Sandbox
from agentplug.core.sources.cell import cell_source
from agentplug.core.sources.names import near_match, quoted
from agentplug.doctor import Diagnosis, doctor
from agentplug.errors import PinMismatch
from agentplug.jupyter import options
from agentplug.jupyter.dashboard import moving
from agentplug.jupyter.debugging import breakpoints_note
from agentplug.jupyter.decorators import argument, cell_magic, line_magic, magic_arguments, magics_class
from agentplug.jupyter.failures import LineError, judge, with_unsent
from agentplug.jupyter.sandbox_cell import call_plugin, plain_value, run_cell
from agentplug.jupyter.session import PluginList, Session
from agentplug.manager.manager import AnyPlugin
from agentplug.report.refused_calls import refused_lines
from agentplug.report.sentences import began_empty
from agentplug.report.tracebacks import hint_lines

if TYPE_CHECKING:
    from agentplug.jupyter.available import AvailableList

NAMES = {
    "line": ("load_plugin", "plugins", "unload_plugin", "reload_plugin", "sandbox_doctor", "sandbox"),
    "cell": ("load_plugin", "sandbox"),
}


@magics_class
class AgentplugMagics(Magics):
    """The magics that `%load_ext agentplug` adds."""

    def __init__(self, ip: InteractiveShell, session: Session) -> None:
        super().__init__(ip)
        self.session = session

    @magic_arguments()
    @argument("spec", metavar="SPEC", help="pkg.mod, pkg.mod:Class, ./file.py, or the name of an entry point")
    @argument("--as", dest="name", metavar="NAME", help="the variable to bind; by default one made from SPEC")
    @options.limits
    @argument("--config", metavar="EXPR", help="a dict for the plugin's initialize(), as a Python expression")
    @argument("--locked", action="store_true", help="only if it is what agentplug.lock pins")
    @argument("--live", action="store_true", help="show a dashboard in place of its card: figures, events, buttons")
    @line_magic("load_plugin")
    def load_plugin(self, line: str) -> SandboxedPlugin | None:
        """Load a plugin into a confined worker, bind it to a variable, and show its card.

        ::

            %load_plugin ./greeter.py
            %load_plugin ./greeter.py:PoliteGreeterPlugin --as polite --memory 64M --cpu 2
            %load_plugin my_package.greeter --config {"language": "en"} --network 443

        Then `await greeter.process("hello")` in any cell. A plugin loaded under a name that is taken replaces the
        one before. The kernel never imports the plugin: it reads its source, and a worker runs it.
        """
        arguments = options.parse(self.load_plugin, line)
        name = options.variable_name(arguments.name or options.name_for(arguments.spec), "--as NAME")
        return self._load(arguments.spec, name, arguments)

    @magic_arguments()
    @argument("name", metavar="NAME", help="the plugin's name, and the variable to bind")
    @options.limits
    @argument("--config", metavar="EXPR", help="a dict for the plugin's initialize(), as a Python expression")
    @argument("--locked", action="store_true", help="only if it is what agentplug.lock pins")
    @argument("--live", action="store_true", help="show a dashboard in place of its card: figures, events, buttons")
    @cell_magic("load_plugin")
    def load_plugin_cell(self, line: str, cell: str) -> SandboxedPlugin | None:
        """Load the plugin that this cell defines into a confined worker, and bind it to NAME.

        ::

            %%load_plugin shouter --memory 64M
            class ShouterPlugin:
                name = "shouter"
                version = "1.0"
                async def initialize(self, config): ...
                async def process(self, text): return text.upper()

        The cell runs in the worker and nowhere else. It needs one class whose name ends in `Plugin`. Running the
        cell again replaces the plugin.
        """
        arguments = options.parse(self.load_plugin_cell, line)
        name = options.variable_name(arguments.name, "NAME")
        self._say(breakpoints_note(self.session.ip))
        return self._load(cell_source(cell, name, first_line=2), name, arguments)

    @magic_arguments()
    @options.limits
    @argument(
        "-i", dest="inputs", metavar="NAME", nargs="+", action="extend", help="variables to send in: a b, or a,b"
    )
    @argument("-o", dest="outputs", metavar="NAME", nargs="+", action="extend", help="variables to bring back")
    @argument("--keep", metavar="NAME", help="a session: its worker and variables live on, from cell to cell")
    @argument("--run", metavar="NAME", default="_run", help="the variable to bind the Run to (default: _run)")
    @argument("--expect", metavar="KIND[:BY]", help="the verdict that this cell must end with")
    @argument("--plugin", metavar="NAME", help="call this loaded plugin with the cell's last value")
    @argument(
        "--live",
        action="store_true",
        help="show memory and CPU while it runs, and buttons that stop it; then the run's card",
    )
    @cell_magic("sandbox")
    def sandbox(self, line: str, cell: str) -> Any:
        """Run this cell in a confined worker, a fresh one unless it is kept, and show its last value.

        ::

            %%sandbox --memory 64M --cpu 1 -i numbers -o total
            total = sum(numbers)
            total / len(numbers)

            %%sandbox --memory 64M --expect limited:memory
            hog = bytearray(1 << 30)

        The worker knows nothing of the notebook but the variables sent with -i; what the cell defines ends with
        it, but for the variables named with -o. Values come back as plain data, arrays or DataFrames. `await`
        works, a final semicolon hides the value, IPython's own syntax (%magics, !commands) doesn't work here.

        The Run (verdict, cost, output) is bound to `_run`, or as --run says. A verdict other than completed raises;
        with --expect, any other than that raises, and that one shows the run. Verdicts: completed, failed (:the
        exception's name), limited (:memory, cpu, wall, …), died (:SIGSEGV, 'exit 3', …), broken (:protocol,
        unserializable), stopped (:interrupt).

        With --plugin the last value is what that plugin is called with, in its own worker and under its own limits:
        its reply is shown, its Run bound, its verdict judged. The cell itself must then complete.

        With --keep NAME the worker and what the cells define live on, for the next cell with that --keep. Limits
        count for each cell. %plugins lists it, %unload_plugin NAME ends it. If the worker is lost, the next cell
        begins empty, and says so.

        --profile memory or --profile cpu also shows where that went, as the worker itself says.
        """
        arguments = options.parse(self.sandbox, line)
        expected = options.expected_verdict(arguments.expect)
        bound = options.variable_name(arguments.run, "--run")
        outputs = options.variable_names(arguments.outputs, "-o")
        inputs = {name: self._variable(name) for name in options.variable_names(arguments.inputs, "-i")}
        target = self._confined(arguments.plugin) if arguments.plugin else None
        policy = options.policy_from(arguments)
        lasting = self._sandbox(arguments, policy) if arguments.keep is not None else None
        names = self.session.names
        self._say(breakpoints_note(self.session.ip))
        names.pop(bound, None)  # a cell that never runs must not leave an old Run there

        def bind(run: Run) -> None:
            names[bound] = run

        live = arguments.live and target is None
        run = run_cell(cell, policy, inputs, outputs, bind, lasting=lasting, live=live)
        run = with_unsent(run, names, self.session.ip.user_ns_hidden)
        bind(run)
        names.update(run.out)
        self._say(began_empty(run))
        if target is not None:
            run = call_plugin(target, plain_value(run), bind, live=arguments.live)
        value = judge(run, expected)
        if value is run and arguments.live and moving():
            return None  # its card has taken the place of the dashboard
        if value is not run:  # a run shows them itself
            for text in (*refused_lines(run.events), *hint_lines(run)):
                print(text, file=sys.stderr)
            if run.profile is not None:
                display(run.profile)  # type: ignore[no-untyped-call]
        return None if isinstance(value, Described) and value.is_displayed else value

    @line_magic("sandbox")
    def sandbox_line(self, line: str) -> None:
        """Refuse a slip of the hand, which IPython would only mention: the code below must not run in the kernel."""
        raise LineError("%sandbox is for a whole cell: write %%sandbox as its first line")

    @magic_arguments()
    @argument("--available", action="store_true", help="those that installed packages announce, none imported")
    @line_magic("plugins")
    def plugins(self, line: str) -> PluginList | AvailableList:
        """List the plugins of this session: name, version, state, where they run, calls, last verdict, hooks.

        ::

            %plugins
            loaded = %plugins
            %plugins --available

        `loaded.manager` is then the session's `PluginManager`, and its `trace` a table with one row a call.
        With --available those that are installed: what they ask for, and whether agentplug.lock pins them.
        """
        if options.parse(self.plugins, line).available:
            from agentplug.jupyter.available import AvailableList  # importing the pins takes time

            return AvailableList()
        return PluginList(self.session)

    @magic_arguments()
    @argument("name", metavar="NAME", help="a loaded plugin, or a kept session")
    @line_magic("unload_plugin")
    def unload_plugin(self, line: str) -> None:
        """Close a plugin and its worker, and drop its variable; or end a session of `%%sandbox --keep`.

        ::

            %unload_plugin greeter
        """
        self.session.unload(options.parse(self.unload_plugin, line).name)

    @magic_arguments()
    @argument("name", metavar="NAME", help="a loaded plugin")
    @line_magic("reload_plugin")
    def reload_plugin(self, line: str) -> AnyPlugin:
        """Load a plugin anew, from what its file or module holds now, with the same limits and configuration.

        ::

            %reload_plugin greeter

        Also takes a plugin out of quarantine. If the new one can't be loaded the old one stays.
        """
        return self.session.reload(options.parse(self.reload_plugin, line).name)

    @magic_arguments()
    @argument("--attack", action="store_true", help="also let every plugin of the zoo loose: a minute or so")
    @line_magic("sandbox_doctor")
    def sandbox_doctor(self, line: str) -> Diagnosis:
        """List the barriers of this machine, each proved by trying it in throwaway workers.

        ::

            %sandbox_doctor
            %sandbox_doctor --attack
        """
        return doctor(attack=options.parse(self.sandbox_doctor, line).attack)

    def _load(self, source: object, name: str, arguments: Any) -> SandboxedPlugin | None:
        policy = options.policy_from(arguments)
        config = options.evaluated(arguments.config, self.session.names)
        try:
            plugin = self.session.load(source, name, policy, config, locked=arguments.locked)
        except PinMismatch:
            from agentplug.jupyter.available import consent

            if arguments.locked and (card := consent(source, policy)) is not None:
                display(card)  # type: ignore[no-untyped-call]
            raise
        if arguments.live and moving():
            from agentplug.jupyter.dashboard.view import Dashboard

            display(Dashboard(plugin))  # type: ignore[no-untyped-call]
            return None  # a card beside it would soon be stale
        return plugin

    def _say(self, note: str) -> None:
        if note:
            print(note, file=sys.stderr)

    def _sandbox(self, arguments: Any, policy: Policy | None) -> Sandbox:
        """Return the session of `--keep`, started if there is none. Raises `LineError` if it has other limits."""
        name = options.variable_name(arguments.keep, "--keep")
        sandbox = self.session.sandboxes.get(name)
        if sandbox is None:
            return self.session.keep(name, policy)
        asked = options.policy_from(arguments, sandbox.policy) or sandbox.policy
        had = sandbox.policy
        changed = [f"--{row.option}" for row in FIELDS.values() if getattr(asked, row.name) != getattr(had, row.name)]
        if changed:
            raise LineError(
                f"--keep: the session {quoted(name)} began with another {', '.join(changed)}; leave that out, or end "
                f"the session with %unload_plugin {name}"
            )
        return sandbox

    def _variable(self, name: str) -> Any:
        names = self.session.names
        if name not in names:
            raise LineError(f"-i: there is no variable {quoted(name)}{near_match(name, names)}")
        return names[name]

    def _confined(self, name: str) -> SandboxedPlugin:
        plugin = self.session.plugin(name)
        if not isinstance(plugin, SandboxedPlugin):
            raise LineError(f"--plugin: {quoted(name)} is trusted and runs in the kernel; call it with await")
        if plugin.state == "busy":  # waiting here would block the kernel's loop, and with it that call
            raise LineError(f"--plugin: {quoted(name)} is busy with another call; await that one first")
        return plugin
