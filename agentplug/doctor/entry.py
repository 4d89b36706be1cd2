"""`doctor()` itself, which can be called on any system (host)."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import replace

from agentplug.core.host.conversation import wait_for
from agentplug.core.host.launcher import zygote_for
from agentplug.doctor.battery.matrix import Matrix, Row
from agentplug.doctor.diagnosis import OWN_ZYGOTE, Diagnosis
from agentplug.errors import AgentplugError


def doctor(attack: bool = False, progress: Callable[[Row], None] | None = None) -> Diagnosis:
    """Try each barrier of this machine in throwaway workers; a few seconds. Never raises for what is missing.

    `attack` also lets every plugin of the zoo loose, which takes a minute or so: the diagnosis then has a `matrix`.
    `progress` gets each of its rows as it comes.
    """
    machine = f"{platform.system()} {platform.release()} {platform.machine()}, Python {sys.version.split()[0]}"
    try:
        zygote_for(OWN_ZYGOTE)  # raises off Linux, where the battery can't be imported
        from agentplug.doctor.examination import examine

        diagnosis = Diagnosis(machine, wait_for(examine()))
    except AgentplugError as error:
        return Diagnosis(machine, (), str(error), attack)
    return attacked(diagnosis, progress) if attack else diagnosis


def attacked(diagnosis: Diagnosis, progress: Callable[[Row], None] | None = None) -> Diagnosis:
    """The diagnosis with what the battery found; without a matrix where no plugin is started by default."""
    matrix: Matrix | None = None
    if not diagnosis.problem:
        from agentplug.doctor.battery.run import run_battery

        try:
            matrix = wait_for(run_battery(progress=progress))
        except AgentplugError:
            matrix = None
    return replace(diagnosis, attack=True, matrix=matrix)
