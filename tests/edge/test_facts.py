"""The table of facts: in the order of their moments, whatever the order in which they came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.facts import KEPT, Facts
from wire.facts import MAX_INPUTS, Fact, Value


def fact(t_ms: int, value: Value = "lifted", name: str = "nozzle-1") -> Fact:
    """What an input says."""
    return Fact(input=name, value=value, t_ms=t_ms)


def said(facts: Facts, t_ms: int, name: str = "nozzle-1") -> Value | None:
    """What an input said at a moment, None if nothing was said of it until then."""
    return facts.at(t_ms, [name])[name].value if facts.at(t_ms, [name]) else None


def test_a_fact_holds_from_its_moment_until_the_next() -> None:
    """Before the first one nothing is known; an input that nobody asks for is not told."""
    facts = Facts()
    assert facts.put(fact(1000, "lifted"))
    assert facts.put(fact(2000, "hung"))
    assert facts.put(fact(1500, 87.5, "tank-1"))
    moments = (999, 1000, 1999, 2000, 9_999_999)
    assert [said(facts, t_ms) for t_ms in moments] == [None, "lifted", "lifted", "hung", "hung"]
    assert facts.at(5000, ["tank-1", "never-said"]) == {"tank-1": fact(1500, 87.5, "tank-1")}


def test_changes_are_told_between_two_moments() -> None:
    """Both ends apart, of the inputs that are asked for, each moment once, in order."""
    facts = Facts()
    for t_ms in (3000, 1000, 2000):
        facts.put(fact(t_ms, t_ms))
    facts.put(fact(2000, True, "paid"))
    facts.put(fact(2500, True, "other"))
    assert facts.changes(1000, 3000, ["nozzle-1", "paid"]) == [2000]
    assert facts.changes(0, 9999, ["nozzle-1"]) == [1000, 2000, 3000]
    assert facts.changes(0, 9999, ["never-said"]) == []


def test_a_late_fact_takes_its_place_in_the_past() -> None:
    """What came out of order is what it was at its time, and does not undo what came after."""
    facts = Facts()
    facts.put(fact(2000, "hung"))
    assert facts.put(fact(1000, "lifted"))
    assert (said(facts, 1500), said(facts, 2500)) == ("lifted", "hung")
    assert facts.newest() == [fact(2000, "hung")]


def test_the_same_again_is_no_news() -> None:
    """A post that is repeated changes nothing; the same word at a later moment is a new fact."""
    facts = Facts()
    assert facts.put(fact(1000))
    assert not facts.put(fact(1000))
    assert facts.put(fact(2000))
    assert facts.changes(0, 9999, ["nozzle-1"]) == [1000, 2000]


@pytest.mark.parametrize(("first", "second"), [("a", "b"), (True, 1.0), (0.0, False)])
def test_at_one_moment_the_later_word_counts(first: Value, second: Value) -> None:
    """Two values of one moment: the one that came last, and true is not 1."""
    facts = Facts()
    facts.put(fact(1000, first))
    assert facts.put(fact(1000, second))
    assert repr(said(facts, 1000)) == repr(second)
    assert len(facts.kept()) == 1


def test_the_history_of_an_input_is_bounded() -> None:
    """Only the newest are kept (I8); one from before all of them is refused and counted."""
    facts = Facts()
    for t_ms in range(1, KEPT + 11):
        assert facts.put(fact(t_ms, t_ms))
    assert [kept.t_ms for kept in facts.kept()] == list(range(11, KEPT + 11))
    assert "older than the 64" in facts.problem(fact(5))
    assert not facts.put(fact(5))
    assert facts.refused == 1
    assert facts.problem(fact(KEPT + 11)) == ""


def test_the_inputs_are_bounded() -> None:
    """One more than there may be is refused and counted (I8); those that are known go on."""
    facts = Facts()
    for number in range(MAX_INPUTS):
        assert facts.put(fact(1, number, f"i{number}"))
    assert "1000 inputs already" in facts.problem(fact(1, True, "another"))
    assert not facts.put(fact(1, True, "another"))
    assert facts.put(fact(2, True, "i0"))
    assert (facts.refused, len(facts.newest())) == (1, MAX_INPUTS)


def test_a_clock_that_was_taken_back_leaves_no_facts_of_the_future() -> None:
    """What was said last holds since the new now, and the next fact follows it as ever."""
    facts = Facts()
    facts.put(fact(1000, "hung"))
    for t_ms in range(900_000, 900_100):
        facts.put(fact(t_ms, "lifted" if t_ms % 2 else "hung"))
    facts.heed_clock(5000)
    assert (said(facts, 4999), said(facts, 5000)) == (None, "lifted")
    assert facts.put(fact(5200, "hung"))
    assert [kept.t_ms for kept in facts.kept()] == [5000, 5200]
    facts.heed_clock(6000)
    assert [kept.t_ms for kept in facts.kept()] == [5000, 5200]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.sampled_from([True, 1.0, "x"])),
        max_size=60,
    ),
    st.integers(0, 31),
)
def test_it_says_what_a_plain_list_says(words: list[tuple[str, int, Value]], at_ms: int) -> None:
    """In any order of coming, an input says the last word of the latest moment until then."""
    facts = Facts()
    for name, t_ms, value in words:
        facts.put(fact(t_ms, value, name))
    for name in "ab":
        until = [(t, n, v) for n, (i, t, v) in enumerate(words) if i == name and t <= at_ms]
        expected = max(until, key=lambda one: one[:2])[2] if until else None
        assert repr(said(facts, at_ms, name)) == repr(expected)
