"""Check what users pass to a plugin (host): its policy, its configuration, its inputs."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.sources.source import Source
from agentplug.errors import ContractError, PolicyError


def policy_with(policy: object, memory_limit_mb: object) -> Policy:
    """Return `policy` or the default one, with `memory_limit_mb` for its memory unless None. Raises `PolicyError`."""
    if policy is None:
        policy = Policy()
    if not isinstance(policy, Policy):
        raise PolicyError(f"policy={printable(repr(policy), 100)}: write a Policy, as in Policy(memory='256M')")
    if memory_limit_mb is None:
        return policy
    if isinstance(memory_limit_mb, bool) or not isinstance(memory_limit_mb, (int, float)):
        raise PolicyError(f"memory_limit_mb={memory_limit_mb!r}: write a number of megabytes")
    if not 1 <= memory_limit_mb <= 1 << 30:
        raise PolicyError(f"memory_limit_mb={memory_limit_mb!r}: between 1 and {1 << 30}, please")
    return policy.replace(memory=int(memory_limit_mb * (1 << 20)))


def checked_config(config: object) -> dict[str, Any]:
    """Return a plugin's configuration as a dict. Raises `ContractError`."""
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ContractError(f"config is a {type(config).__name__}; write a dict")
    return dict(config)


def guess_identity(spec: object, source: Source) -> tuple[str, str]:
    """Return name and version before the worker has claimed them: of the user's own object, else from the spec."""
    name, version = getattr(spec, "name", None), getattr(spec, "version", None)
    if source.kind == "object" and isinstance(name, str) and name and isinstance(version, str):
        return name, version
    return source.attribute or source.entry.rpartition(".")[2] or source.spec, ""


async def batches(inputs: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncIterator[list[Any]]:
    """Yield `inputs` in lists of `size`, the last one perhaps shorter. Raises `ContractError`."""
    batch: list[Any] = []
    if isinstance(inputs, AsyncIterable):
        async for item in inputs:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    elif isinstance(inputs, Iterable):
        for item in inputs:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    else:
        raise ContractError(f"map() takes an iterable of inputs, not a {type(inputs).__name__}")
    if batch:
        yield batch
