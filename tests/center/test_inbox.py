"""The inbox: bounded, patient with the database, and not stopped by a message that cannot be."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError

from center.inbox import Inbox
from center.metrics import Metrics
from tests.waiting import wait_for
from wire.link import Received

WAIT_S = 5.0


def message(number: int) -> Received:
    return Received(connection=1, topic="t", payload=b"", mid=number, qos=1)


class Work:
    """Handles groups of messages; `fail` may raise for one."""

    def __init__(self, fail: Callable[[list[int]], None] = lambda _: None) -> None:
        self.groups: list[list[int]] = []
        self.acked: list[int] = []
        self.metrics = Metrics()
        self._fail = fail

    def handle(self, group: list[Received]) -> None:
        numbers = [one.mid for one in group]
        self._fail(numbers)
        self.groups.append(numbers)

    def ack(self, one: Received) -> None:
        self.acked.append(one.mid)

    def count(self, name: str) -> int:
        return self.metrics.counts()[name]


@contextmanager
def inbox(work: Work, *, started: bool = True, **limits: object) -> Iterator[Inbox]:
    made = Inbox("test", work.handle, work.ack, work.metrics, retry_s=0.01, **limits)  # type: ignore[arg-type]  # limits
    if started:
        made.start()
    try:
        yield made
    finally:
        made.stop()


def test_messages_are_handled_in_order_and_in_groups() -> None:
    """What waits is taken together, up to the limit, and acknowledged after it was handled."""
    work = Work()
    with inbox(work, started=False, max_group=3) as made:
        for number in range(1, 8):
            made.offer(message(number))
        assert made.waiting == 7
        made.start()
        wait_for(lambda: len(work.acked) == 7, WAIT_S, "all acknowledged")
    assert work.groups == [[1, 2, 3], [4, 5, 6], [7]]
    assert work.acked == [1, 2, 3, 4, 5, 6, 7]


def test_urgent_messages_go_first() -> None:
    """I9: an alarm does not wait at the center behind backlog that came before it."""
    work = Work()

    def is_urgent(one: Received) -> bool:
        return one.mid > 5

    with inbox(work, started=False, max_group=3, urgent=is_urgent) as made:
        for number in range(1, 8):
            made.offer(message(number))
        assert made.waiting == 7
        made.start()
        wait_for(lambda: len(work.acked) == 7, WAIT_S, "all acknowledged")
    assert work.groups == [[6, 7, 1], [2, 3, 4], [5]]


def test_too_many_are_discarded_and_acknowledged() -> None:
    """I8: beyond the bound a message is counted and given back, so that the broker goes on."""
    work = Work()
    with inbox(work, started=False, max_waiting=2) as made:
        for number in range(1, 5):
            made.offer(message(number))
        assert made.waiting == 2
    assert work.acked == [3, 4]
    assert work.count("messages_discarded_total") == 2


def test_a_busy_database_is_tried_again() -> None:
    """While the database cannot, nothing is acknowledged; the same group is handled later."""
    failures = [OperationalError("INSERT", {}, Exception("locked"))] * 3

    def fail(_group: list[int]) -> None:
        assert not work.acked
        if failures:
            raise failures.pop()

    work = Work(fail)
    with inbox(work) as made:
        made.offer(message(1))
        wait_for(lambda: work.acked == [1], WAIT_S, "the ack")
    assert work.groups == [[1]]
    assert work.count("database_retries_total") == 3
    assert work.count("messages_discarded_total") == 0


def test_a_poisonous_message_is_singled_out(caplog: pytest.LogCaptureFixture) -> None:
    """A group that fails for good is handled one by one; only what fails by itself is given up."""

    def fail(group: list[int]) -> None:
        if 2 in group:
            raise ZeroDivisionError

    work = Work(fail)
    with inbox(work, started=False) as made:
        for number in (1, 2, 3):
            made.offer(message(number))
        made.start()
        wait_for(lambda: len(work.acked) == 3, WAIT_S, "all acknowledged")
    assert work.groups == [[1], [3]]
    assert work.count("messages_discarded_total") == 1
    assert "could not be handled" in caplog.text


def test_a_nudge_needs_no_message() -> None:
    """There may be work besides messages."""
    work = Work()
    with inbox(work, linger_s=0.01) as made:
        made.nudge()
        wait_for(lambda: work.groups == [[]], WAIT_S, "a turn without messages")


def test_stop_interrupts_waiting_for_the_database() -> None:
    """Stopping does not wait for a database that never answers; the message is not acknowledged."""

    def fail(_group: list[int]) -> None:
        raise OperationalError("INSERT", {}, Exception("disk full"))

    work = Work(fail)
    with inbox(work) as made:
        made.offer(message(1))
        wait_for(lambda: work.count("database_retries_total") > 1, WAIT_S, "some attempts")
    assert not made.is_alive()
    assert work.acked == []
