"""Credit: few send backlog at a time, and everybody gets a turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from center import credit as credit_module
from center.credit import Brake, Credit
from center.metrics import Metrics
from tests.parts.centers import SimulatedClock

HUGE = 10**9


def credit(leases: int = 2) -> tuple[Credit, SimulatedClock]:
    clock = SimulatedClock()
    return Credit(clock, leases=leases), clock


def test_leases_are_given_in_order() -> None:
    """Who comes when all are out waits, and is granted when one is given back."""
    given_out, _ = credit()
    assert [given_out.ask(w, "s", 5) for w in ("a", "b", "c", "d")] == [30.0, 30.0, 0.0, 0.0]
    assert given_out.take_granted() == []
    assert given_out.ask("c", "s2", 5) == 0.0
    given_out.release("b")
    assert given_out.take_granted() == [("c", "s2", 30.0)]
    assert given_out.take_granted() == []
    assert given_out.ask("a", "s", 0) == 0.0
    assert given_out.take_granted() == [("d", "s", 30.0)]
    assert (given_out.held, given_out.waiting) == (2, 0)


def test_a_lease_ends_when_its_backlog_has_come() -> None:
    """So that ten thousand small backlogs need not wait for each other's time."""
    given_out, _ = credit(1)
    given_out.ask("a", "s", 300)
    given_out.ask("b", "s", 300)
    assert given_out.renew("a", "s", 200) == 30.0
    assert given_out.renew("a", "s", 100) == 0.0
    assert given_out.take_granted() == [("b", "s", 30.0)]


def test_a_lease_ends_when_it_is_not_renewed() -> None:
    """A worker that is gone holds it no longer than its time."""
    given_out, clock = credit(1)
    given_out.ask("a", "s", 5)
    given_out.ask("b", "s", 5)
    clock.pass_s(29)
    assert given_out.take_granted() == []
    clock.pass_s(1)
    assert given_out.take_granted() == [("b", "s", 30.0)]


def test_who_sends_without_a_lease_gets_one_or_waits() -> None:
    """A center that was restarted goes on with those who still send."""
    given_out, _ = credit(1)
    assert given_out.renew("a", "s", 200) == 30.0
    assert given_out.renew("b", "s", 200) == 0.0
    given_out.release("a")
    assert given_out.take_granted() == [("b", "s", 30.0)]


def test_the_brake_stops_everybody_and_lifts_by_itself() -> None:
    """While it is on nothing is given or renewed; those who were stopped go on after it."""
    given_out, clock = credit(2)
    given_out.ask("a", "s", HUGE)
    given_out.brake(True)
    assert given_out.renew("a", "s", 1) == 0.0
    assert given_out.ask("b", "s", 5) == 0.0
    assert given_out.take_granted() == []
    given_out.brake(False)
    assert given_out.take_granted() == [("a", "s", 30.0), ("b", "s", 30.0)]
    given_out.brake(True)
    assert given_out.ask("c", "s", 5) == 0.0
    clock.pass_s(30)
    assert given_out.take_granted() == [("c", "s", 30.0)]


def test_those_who_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """I8: who finds no place is counted, and asks again."""
    monkeypatch.setattr(credit_module, "MAX_WAITING", 1)
    metrics = Metrics()
    given_out = Credit(SimulatedClock(), leases=1, metrics=metrics)
    assert [given_out.ask(w, "s", 5) for w in "abc"] == [30.0, 0.0, 0.0]
    assert given_out.waiting == 1
    assert metrics.counts()["credit_turned_away_total"] == 1


def test_the_brake_does_not_flutter() -> None:
    """It is set by slow turns or a long queue, and lifted only with room to spare."""
    brake = Brake()
    assert not brake.felt(0.1, 0.4)
    assert brake.felt(0.1, 0.6)
    assert brake.felt(0.1, 0.3)
    assert not brake.felt(0.1, 0.1)
    assert brake.felt(5.0, 0.0)
    assert brake.felt(0.0, 0.0)
    for _ in range(10):
        brake.felt(0.0, 0.0)
    assert not brake.on


steps = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["ask", "renew", "release", "wait"])),
    max_size=80,
)


@given(steps, st.integers(1, 3))
def test_never_more_leases_than_there_are(said: list[tuple[str, str]], leases: int) -> None:
    """Whatever is said: live leases are bounded, by what the workers were told too."""
    given_out, clock = credit(leases)
    until: dict[str, float] = {}
    for worker, word in said:
        match word:
            case "ask":
                until[worker] = clock.elapsed_s() + given_out.ask(worker, "s", HUGE)
            case "renew":
                until[worker] = clock.elapsed_s() + given_out.renew(worker, "s", 1)
            case "release":
                given_out.release(worker)
                until.pop(worker, None)
            case _:
                clock.pass_s(7)
        for granted, _, seconds in given_out.take_granted():
            until[granted] = clock.elapsed_s() + seconds
        assert sum(end > clock.elapsed_s() for end in until.values()) <= leases
        assert given_out.held <= leases


@given(st.integers(1, 3), st.integers(2, 12))
def test_nobody_starves(leases: int, workers: int) -> None:
    """Those who never come to an end take turns with those who wait."""
    given_out, clock = credit(leases)
    names = [f"w{number}" for number in range(workers)]
    sending = {name for name in names if given_out.ask(name, "s", HUGE)}
    served = set(sending)
    for _ in range(10 * workers):
        clock.pass_s(10)
        sending = {name for name in sorted(sending) if given_out.renew(name, "s", 200)}
        sending |= {name for name, _, _ in given_out.take_granted()}
        served |= sending
    assert served == set(names)
