"""The doctor's work: trials and looks on a stage of the battery's, with a zygote of its own (host)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import select
import signal
from dataclasses import replace
from typing import Any

from agentplug.contract.policy import Policy
from agentplug.core.host.launcher import zygote_for
from agentplug.core.run import Run
from agentplug.doctor.battery.catalogue import Attack
from agentplug.doctor.battery.run import let_loose
from agentplug.doctor.battery.stage import Stage
from agentplug.doctor.diagnosis import OWN_ZYGOTE
from agentplug.doctor.looks import Finding, look_at, of_environment
from agentplug.doctor.trials import INVENTORY, PROTECTS, REMEDIES, TRIALS, Trial

_DYING_MS = 5_000
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_TRIES = 3  # on a busy machine a limit may end a call before the refusal does
_STATUSES = ("enforced", "partial", "unavailable")


async def examine(preload: tuple[str, ...] = OWN_ZYGOTE) -> tuple[dict[str, Any], ...]:
    """Examine this machine; return the rows of the table. Raises `AgentplugError`.

    `preload` is the key of a zygote that may be killed.
    """
    base = Policy(best_effort=True, preload=preload)
    preload = base.preload  # in the policy's order, which is the zygote's key
    try:
        async with contextlib.AsyncExitStack() as stack:
            stage = await stack.enter_async_context(Stage(base))
            reports = stage.sibling_barriers
            findings = look_at(stage.sibling_pid, zygote_for(preload).pid)
            inventory, _ = await let_loose(_with(INVENTORY, preload), stage)
            findings.append(of_environment(inventory.value if inventory is not None and inventory.value else ()))
            for trial in TRIALS:
                for _ in range(_TRIES):
                    finding, harmed = await _try(trial, preload, stage)
                    if finding.holds or harmed:
                        break
                findings.append(finding)
                if harmed:
                    await stack.aclose()
                    stage = await stack.enter_async_context(Stage(base))
            findings.append(await _orphaned(stage.sibling_pid, zygote_for(preload).pid))
    finally:
        zygote_for(preload).close()
    barriers = [*reports, *({"barrier": name, "protects": text} for name, text in PROTECTS.items())]
    return tuple(_row(row, [one for one in findings if one.barrier == row["barrier"]]) for row in barriers)


def _with(attack: Attack, preload: tuple[str, ...]) -> Attack:
    return replace(attack, policy=attack.policy.replace(best_effort=True, preload=preload))


async def _try(trial: Trial, preload: tuple[str, ...], stage: Stage) -> tuple[Finding, bool]:
    """Run one trial; judge it by its verdict and the stage. Return the finding, and True if the stage was harmed."""
    attack = _with(trial.attack, preload)
    run, refusal = await let_loose(attack, stage, freely=True)
    harm = await stage.damage()
    seen = harm + (stage.leaks(run) if run is not None else [])
    holds = run is not None and str(run.verdict) in attack.contained and not seen
    answer = _answer(run) if run is not None else refusal
    outcome = answer if holds else f"it got through ({'; '.join(seen) or answer})"
    return Finding(trial.barrier, holds, f"{trial.words}: {outcome}"), bool(harm)


def _answer(run: Run) -> str:
    """Return the short name of the kernel's error, or the verdict."""
    number = _ERRNO.search(run.error.message) if run.error is not None else None
    known = errno.errorcode.get(int(number[1])) if number else None
    return known if known and run.verdict.kind == "failed" else str(run.verdict)


async def _orphaned(pid: int, zygote: int) -> Finding:
    """Kill the zygote of a worker, and check that the worker ends too."""
    worker = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(worker, select.POLLIN)
        os.kill(zygote, signal.SIGKILL)
        ended = bool(await asyncio.to_thread(poll.poll, _DYING_MS))
    finally:
        os.close(worker)
    return Finding("lifetime", ended, f"its zygote is killed: it {'ends too' if ended else 'lives on'}")


def _row(report: dict[str, Any], findings: list[Finding]) -> dict[str, Any]:
    """Make the row of a barrier from the findings; the worker's own report can only make the status worse."""
    count = sum(finding.holds for finding in findings)
    seen = "enforced" if count == len(findings) > 0 else "partial" if count else "unavailable"
    status = max(seen, str(report.get("status", "enforced")), key=_STATUSES.index)
    lost = list(report.get("lost", ()))
    extra = report["barrier"] in ("cgroup", "namespaces")
    if seen != "enforced" and not lost and not extra and report.get("status", "enforced") == "enforced":
        lost = [report["barrier"]]  # the worker reports it as enforced, and yet an attack got through
    return {
        "barrier": report["barrier"],
        "protects": report["protects"],
        "status": status,
        "evidence": "; ".join(finding.words for finding in sorted(findings, key=lambda finding: finding.holds)),
        "remedy": "" if status == "enforced" else report.get("remedy") or REMEDIES.get(report["barrier"], ""),
        "lost": lost,
    }
