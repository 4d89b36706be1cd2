"""When the watchdog checks those it watches, and calls who listens: soon, on a beat, after a rest, no more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentplug.core.host.watchdog import _REST_S, _RESTING_AT_ONCE, BUSY_S, watchdog

PATIENCE_S = 10.0


class Asking:
    """Asks to be checked after `wait_s` each time; keeps when it was, and in what crowd."""

    def __init__(self, wait_s: float, then: Callable[[Asking], None] = lambda _: None) -> None:
        self.wait_s, self._then = wait_s, then
        self.times: list[float] = []
        self.crowds: list[int] = []
        self._more = threading.Condition()

    def tick(self, crowd: int) -> float:
        with self._more:
            self.times.append(time.monotonic())
            self.crowds.append(crowd)
            self._more.notify_all()
        self._then(self)
        return self.wait_s

    def wait_for(self, count: int) -> list[float]:
        """Its times, once there are so many."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.times) >= count, PATIENCE_S), f"{len(self.times)} of {count}"
            return list(self.times)


@pytest.fixture
def watch() -> Iterator[Callable[..., Asking]]:
    """Has the process's own watchdog watch somebody, until the end of the test."""
    dog, watched = watchdog(), []

    def begin(wait_s: float, then: Callable[[Asking], None] = lambda _: None) -> Asking:
        asking = Asking(wait_s, then)
        watched.append(asking)
        dog.watch(asking)
        return asking

    yield begin
    for asking in watched:
        dog.forget(asking)


@pytest.mark.parametrize("wait_s", [0.001, 0.010, BUSY_S])
def test_each_is_checked_at_once_and_then_as_often_as_it_asks(wait_s: float, watch: Callable[..., Asking]) -> None:
    """A little sooner, where that saves an awakening."""
    times = watch(wait_s).wait_for(6)
    assert times[-1] - times[1] > 4 * wait_s - 0.012


def test_who_asks_for_nothing_is_checked_no_more_until_nudged(watch: Callable[..., Asking]) -> None:
    silent, other = watch(float("inf")), watch(0.010)
    silent.wait_for(1)
    other.wait_for(10)
    assert len(silent.times) == 1

    watchdog().nudge(silent)

    assert len(silent.wait_for(2)) == 2


def test_those_who_wait_equally_long_are_checked_together(watch: Callable[..., Asking]) -> None:
    """So that they cost one awakening: each pair of checks stands closer together than the beats do."""
    many = [watch(BUSY_S) for _ in range(8)]
    for asking in many:
        asking.wait_for(6)
    starts = [[round(t / BUSY_S) for t in asking.times[2:6]] for asking in many]
    assert all(len(set(beats)) == 4 for beats in starts), "a beat was left out, or came twice"
    assert many[0].crowds[-1] >= 8


def test_a_nudge_takes_one_off_its_beat_and_leaves_the_others(watch: Callable[..., Asking]) -> None:
    one, other = watch(0.5), watch(0.5)
    one.wait_for(2)
    other.wait_for(2)
    began_s = time.monotonic()

    watchdog().nudge(one, 0.005)

    assert one.wait_for(3)[2] - began_s < 0.4
    one.wait_for(4)
    other.wait_for(4)


@pytest.mark.parametrize("wait_s", [0.010, 0.030], ids=["alone", "on a beat"])
def test_a_later_nudge_puts_nothing_off(wait_s: float, watch: Callable[..., Asking]) -> None:
    asking = watch(wait_s)
    began_s = asking.wait_for(2)[-1]
    watchdog().nudge(asking, PATIENCE_S / 2)
    assert asking.wait_for(4)[-1] - began_s < PATIENCE_S / 4


@pytest.mark.parametrize("wait_s", [0.002, BUSY_S])
def test_nobody_is_checked_again_once_let_go_of(wait_s: float, watch: Callable[..., Asking]) -> None:
    """Also if it lets go of itself during its check, as a worker does that has ended."""
    gone, other = watch(wait_s, watchdog().forget), watch(wait_s)
    gone.wait_for(1)
    other.wait_for(10)
    assert len(gone.times) == 1


@pytest.mark.parametrize("wait_s", [0.002, BUSY_S])
def test_a_nudge_during_a_check_asks_for_the_next_one(wait_s: float, watch: Callable[..., Asking]) -> None:

    def again(asking: Asking) -> None:
        if len(asking.times) == 2:
            asking.wait_s = float("inf")  # from here on only nudges bring it back
        if 2 <= len(asking.times) < 12:
            watchdog().nudge(asking)

    assert len(watch(wait_s, again).wait_for(12)) == 12


def test_a_wait_may_change_from_check_to_check(watch: Callable[..., Asking]) -> None:
    """Alone, onto a beat, onto another, and off it again: each wait counts from the check that asked for it."""
    waits = [BUSY_S, 0.001, 0.025, 0.010, BUSY_S, 0.001, 0.001]

    def change(asking: Asking) -> None:
        asking.wait_s = waits[min(len(asking.times), len(waits)) - 1]

    times = watch(0.0, change).wait_for(len(waits) + 1)
    assert times[-1] - times[0] < PATIENCE_S / 4


def test_a_beat_without_members_is_no_more(watch: Callable[..., Asking]) -> None:
    wait_s = 0.0371  # nobody else's
    one, other = watch(wait_s), watch(wait_s)
    one.wait_for(2)
    other.wait_for(2)
    assert wait_s in watchdog()._beats
    watchdog().forget(one)
    assert wait_s in watchdog()._beats
    watchdog().forget(other)
    assert wait_s not in watchdog()._beats


class Reading:
    """Reads `most` bytes of a pipe whenever the watchdog says that there is something."""

    def __init__(self, *, rests: bool, most: int = 1 << 16) -> None:
        self.fd, self.writer = os.pipe2(os.O_NONBLOCK)
        self.calls = self.count = 0
        self._most = most
        self._more = threading.Condition()
        watchdog().listen(self.fd, self._read, rests=rests)

    def _read(self) -> None:
        with self._more:
            self.count += len(os.read(self.fd, self._most))
            self.calls += 1
            self._more.notify_all()

    def wait_for(self, count: int) -> None:
        """Wait until so many bytes have been read."""
        with self._more:
            assert self._more.wait_for(lambda: self.count >= count, PATIENCE_S), f"{self.count} of {count}"

    def close(self) -> None:
        watchdog().ignore(self.fd)
        os.close(self.fd)
        os.close(self.writer)


@pytest.fixture
def reading() -> Iterator[Callable[..., Reading]]:
    """Makes pipes that the watchdog listens to, until the end of the test."""
    made: list[Reading] = []

    def begin(**options: Any) -> Reading:
        made.append(Reading(**options))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def test_a_descriptor_that_rests_costs_the_same_however_little_is_written(reading: Callable[..., Reading]) -> None:
    """A byte at a time would wake the watchdog for each; nothing is lost, and the first byte isn't kept waiting."""
    pipe = reading(rests=True)
    begun_s = time.monotonic()
    written = 0
    # On a busy machine the writer may come to its turn as seldom as the watchdog: then it goes on for longer.
    while time.monotonic() - begun_s < 0.2 or pipe.calls + 4 >= written / 4:
        written += os.write(pipe.writer, b"x")
        time.sleep(0.0001)
    pipe.wait_for(written)

    assert pipe.calls <= (time.monotonic() - begun_s) / _REST_S + 2
    assert pipe.calls < written / 4


def test_what_is_left_after_a_rest_is_read_then(reading: Callable[..., Reading]) -> None:
    """Without anything new being written."""
    pipe = reading(rests=True, most=1)
    os.write(pipe.writer, b"abc")

    pipe.wait_for(3)

    assert pipe.calls == 3


def test_many_that_rest_are_woken_together(reading: Callable[..., Reading]) -> None:
    """A hundred floods cost no more than a few: each rests longer."""
    pipes = [reading(rests=True, most=1) for _ in range(10 * _RESTING_AT_ONCE)]
    begun_s = time.monotonic()
    for pipe in pipes:
        os.write(pipe.writer, b"x" * 6)
    for pipe in pipes:
        pipe.wait_for(6)

    assert time.monotonic() - begun_s > 3 * _REST_S * 10


def test_a_number_that_is_used_again_has_no_rest_of_its_predecessor(reading: Callable[..., Reading]) -> None:
    """Neither is it forgotten, nor listened to only once."""
    pipe = reading(rests=True)
    os.write(pipe.writer, b"x")
    pipe.wait_for(1)
    watchdog().ignore(pipe.fd)
    watchdog().listen(pipe.fd, pipe._read)
    for count in range(2, 20):
        os.write(pipe.writer, b"x")
        pipe.wait_for(count)
