"""What is kept of the samples of one exchange, however long it lasts."""

from __future__ import annotations

from itertools import pairwise

from agentplug.contract.record import Sample
from agentplug.core.host.samples import Samples


def taken(count: int, *, at_once: int = 1) -> Samples:
    """So many samples a nanosecond apart, thinned after each `at_once`."""
    samples = Samples()
    for number in range(count):
        samples.append((number, 4096, number, 1))
        if number % at_once == 0:
            samples.thin()
    return samples


def test_a_few_are_all_kept() -> None:
    assert [sample.t_ns for sample in taken(2_048).all()] == list(range(2_048))
    assert taken(3).latest == Sample(2, 4096, 2, 1)
    assert (Samples().latest, Samples().all()) == (None, ())


def test_of_many_every_so_many_is_kept_from_the_first_to_the_last() -> None:
    for count in (2_049, 5_000, 100_001):
        for at_once in (1, 100):
            samples = taken(count, at_once=at_once)
            assert samples.latest == Sample(count - 1, 4096, count - 1, 1)
            times = [sample.t_ns for sample in samples.all()]
            assert (times[0], times[-1]) == (0, count - 1)
            assert 1_024 <= len(times) <= 2_049
            steps = [later - sooner for sooner, later in pairwise(times)]
            assert min(steps[:-1]) > 0
            assert max(steps) <= 2 * min(steps[:-1])


def test_memory_is_bounded() -> None:
    samples = Samples()
    for number in range(50_000):
        samples.append((number, 4096, number, 1))
        samples.thin()
        assert len(samples._rows) <= 2_561
