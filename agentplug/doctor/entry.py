"""`doctor()` itself, for any system (host)."""

from __future__ import annotations

import contextlib
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
    """Try each barrier of this machine in throwaway workers, in a few seconds. Never raises for a missing barrier.

    `attack` also runs every plugin of the zoo, which takes a minute or so: the diagnosis then has a `matrix`.
    `progress` gets each row of the matrix as it comes.
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
    """Run the battery and return the diagnosis with its matrix; with none if no plugin can be started."""
    matrix: Matrix | None = None
    if not diagnosis.problem:
        from agentplug.doctor.battery.run import run_battery

        with contextlib.suppress(AgentplugError):
            matrix = wait_for(run_battery(progress=progress))
    return replace(diagnosis, attack=True, matrix=matrix)
