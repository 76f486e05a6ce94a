"""Demand: what rules need to see, and that idle decoding misses none of it."""

import math
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.video.demand import Demand, Idle, Need, Traits, idle, joined, of_task, shown_s
from wire import specs

EPSILON_S = 1e-6


def task(*rules: dict[str, Any], **spec: Any) -> specs.Task:
    made = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": "bay", "station": "s1"},
            "spec": {
                "camera": "cam",
                "model": {"name": "m"},
                "lines": {"exit": [[0.1, 0.5], [0.9, 0.5]]},
                "rules": [{"name": f"r{n}"} | rule for n, rule in enumerate(rules)],
            }
            | spec,
        }
    )
    assert isinstance(made, specs.Task)
    return made


def need(**rule: Any) -> Need:
    """What a task with this one rule needs."""
    (only,) = of_task(task(rule)).needs
    return only


def wants(min_visit_s: float, full: bool = False) -> Demand:
    return Demand(5.0, min_visit_s, full, (), "normal")


TRUCKS, PEOPLE = ({"class": name} for name in ("truck", "person"))
CROSSING = {"class": "car", "crosses": "exit"}
UNPAID = {"not": {"input": "paid", "is": True}}
STEPS = {
    "begins": {"count": {"class": "truck"}, "at_least": 1},
    "steps": [{"name": "a", "lasts": 9}],
}
ALONE = {
    "all": [
        {"count": TRUCKS, "at_least": 1},
        {"any": [{"not": {"count": PEOPLE, "at_least": 1}}]},
    ]
}


@pytest.mark.parametrize(
    ("rule", "min_visit_s", "why"),
    [
        ({"when": PEOPLE, "for": "3s"}, 3.0, "its `for`: a shorter visit makes no incident"),
        ({"when": PEOPLE, "for": "200ms"}, 0.2, "its `for`: a shorter visit makes no incident"),
        ({"when": PEOPLE}, 1.0, "it has no `for`: a moment makes an incident"),
        ({"when": CROSSING}, 1.0, "crossing a line takes a moment"),
        ({"when": CROSSING, "min_visit": "400ms"}, 0.4, "its min_visit says so"),
        ({"when": {"count": PEOPLE, "at_least": 5}, "for": "30s"}, 30.0, "its `for`: a shorter"),
        ({"when": {"count": PEOPLE, "at_most": 0}, "for": "5m"}, 1.0, "a moment interrupts what"),
        ({"when": {"count": PEOPLE, "at_most": 0}, "for": "500ms"}, 0.5, "its `for`: a shorter"),
        ({"when": {"all": [UNPAID, {"count": TRUCKS, "at_least": 1}]}, "for": "9s"}, 9.0, "its `f"),
        ({"when": TRUCKS | {"while": UNPAID}, "for": "90s"}, 90.0, "its `for`"),
        ({"when": TRUCKS | {"while": ALONE}, "for": "90s"}, 1.0, "a moment interrupts"),
        ({"when": UNPAID, "for": "90s"}, 2.0, "it asks the station's inputs, not the picture"),
        ({"procedure": STEPS}, 1.0, "a moment may begin, end or break a procedure"),
        ({"when": ALONE, "for": "90s"}, 1.0, "a moment interrupts what it waits for"),
        ({"when": ALONE, "for": "90s", "grace": "20s"}, 1.0, "a moment interrupts"),
        ({"when": ALONE, "for": "90s", "min_visit": "10s"}, 10.0, "its min_visit says so"),
    ],
)
def test_each_rule_says_what_it_needs_and_why(
    rule: dict[str, Any], min_visit_s: float, why: str
) -> None:
    """The operator's min_visit, else a moment or the rule's `for`, told in a sentence."""
    assert need(**rule).min_visit_s == min_visit_s
    assert need(**rule).why.startswith(why)


def test_a_task_wants_the_strictest_of_its_rules() -> None:
    """The shortest visit rules; the needs stand in the order in which the rules were written."""
    demand = of_task(
        task(
            {"when": PEOPLE, "for": "3s"}, {"when": CROSSING}, {"when": TRUCKS, "for": "10s"},
            fps=8, priority="high", decode="full",
        )
    )  # fmt: skip
    assert (demand.fps, demand.min_visit_s) == (8.0, 1.0)
    assert (demand.full, demand.priority) == (True, "high")
    assert [(each.rule, each.min_visit_s) for each in demand.needs] == [
        ("r0", 3.0), ("r1", 1.0), ("r2", 10.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("min_visit_s", "traits", "level", "key_every_s", "then_s", "why"),
    [
        (3, Traits(), "FULL", 0, 0, "not known yet"),
        (3, Traits(2.0, None), "FULL", 0, 0, "not known yet whether its key frames"),
        (3, Traits(None, True), "FULL", 0, 0, "not known yet how often"),
        (3, Traits(math.inf, True), "FULL", 0, 0, "no second key frame"),
        (3, Traits(2.0, False), "FULL", 0, 0, "intra refresh"),
        (3, Traits(2.0, True), "KEY", 2, 0, "each key frame will do"),
        (2, Traits(2.0, True), "KEY", 2, 0, "each key frame will do"),
        (30, Traits(10.0, True), "KEY", 10, 0, "each key frame will do"),
        (3, Traits(0.5, True), "KEY", 2, 0, "one key frame each 2 s will do"),
        (1, Traits(0.4, True), "KEY", 0.8, 0, "one key frame each 0.8 s will do"),
        (
            1,
            Traits(2.0, True),
            "KEY",
            2,
            1,
            "its first 1 s must be decoded too",
        ),
        (1, Traits(4.0, True), "KEY", 4, 3, "its first 3 s must be decoded too"),
        (1, Traits(4.1, True), "FULL", 0, 0, "nearly all would be decoded anyway"),
        (1, Traits(10.0, True), "FULL", 0, 0, "nearly all would be decoded anyway"),
        (3, Traits(0.04, True, intra_only=True), "KEY", 1, 0, "one each 1 s"),
        (0.5, Traits(None, None, intra_only=True), "KEY", 0.5, 0, "one each 0.5 s"),
        (1, Traits(5.0, True, intra_only=True), "KEY", 5, 0, "every frame is a key frame"),
        (3, Traits(0.04, False, intra_only=True), "FULL", 0, 0, "intra refresh"),
    ],
)
def test_an_idle_stream_is_decoded_as_its_key_frames_allow(
    min_visit_s: float, traits: Traits, level: str, key_every_s: float, then_s: float, why: str
) -> None:
    """Key frames where they come often enough, the first seconds of a longer GOP, or all."""
    plan = idle(wants(min_visit_s), traits)
    assert plan.level == level
    assert (plan.key_every_s, plan.then_s) == pytest.approx((key_every_s, then_s))
    assert why in plan.why


def test_a_task_may_forbid_to_decode_less_than_everything() -> None:
    """`decode: full` wins over every trait of the stream."""
    for traits in (Traits(0.5, True), Traits(0.04, True, intra_only=True)):
        assert idle(wants(3, full=True), traits).level == "FULL"


def test_a_stream_that_nobody_wants_has_no_demand() -> None:
    """Nothing to join is an error: such a stream is not decoded at all."""
    with pytest.raises(ValueError, match="no task wants this stream"):
        joined([])


@pytest.mark.parametrize(
    ("seconds", "shown"), [(3, "3 s"), (0.25, "0.25 s"), (100, "100 s"), (2 / 3, "0.667 s")]
)
def test_durations_are_short_to_read(seconds: float, shown: str) -> None:
    """No zeros that say nothing, and none lost that say something."""
    assert shown_s(seconds) == shown


# --- what holds for every demand ---------------------------------------------------------------

DEMANDS = st.builds(
    Demand,
    fps=st.floats(0.1, 60),
    min_visit_s=st.floats(0.01, 1000),
    full=st.booleans(),
    needs=st.lists(
        st.builds(Need, st.sampled_from("abc"), st.floats(0.01, 100), st.just("")), max_size=3
    ).map(tuple),
    priority=st.sampled_from(get_args(specs.Priority)),
)
TRAITS = st.builds(
    Traits,
    gop_s=st.none() | st.floats(0.02, 400) | st.just(math.inf),
    keys_alone=st.sampled_from([True, True, False, None]),
    intra_only=st.booleans(),
)


def decoded_s(plan: Idle, gop_s: float, frame_s: float, until_s: float) -> list[float]:
    """When an idle stream is looked at, as a decoder follows its plan."""
    times: list[float] = []
    key_s, last_key_s = 0.0, -math.inf
    while key_s < until_s:
        if key_s - last_key_s >= plan.key_every_s - frame_s / 2:
            last_key_s, at_s = key_s, key_s
            times.append(key_s)
            while at_s - key_s < plan.then_s - EPSILON_S and at_s + frame_s < key_s + gop_s:
                at_s += frame_s
                times.append(at_s)
        key_s += gop_s
    return times


@given(demand=DEMANDS, traits=TRAITS, frames=st.integers(1, 50))
def test_no_visit_falls_between_two_pictures(demand: Demand, traits: Traits, frames: int) -> None:
    """Unless all is decoded, pictures are no further apart than the visit or one frame."""
    plan = idle(demand, traits)
    if plan.level == "FULL":
        return
    if traits.gop_s is None or math.isinf(traits.gop_s):
        assert traits.intra_only
        assert plan.key_every_s <= demand.min_visit_s
        return
    frame_s = traits.gop_s if traits.intra_only else traits.gop_s / frames
    times = decoded_s(plan, traits.gop_s, frame_s, 5 * max(plan.key_every_s, traits.gop_s))
    assert len(times) > 1
    apart_s = max(b - a for a, b in pairwise(times))
    assert apart_s <= max(demand.min_visit_s, frame_s) + EPSILON_S


@given(demand=DEMANDS, traits=TRAITS)
def test_only_what_is_known_is_relied_on(demand: Demand, traits: Traits) -> None:
    """Less than everything is decoded only of streams whose key frames are known to suffice."""
    plan = idle(demand, traits)
    unknown = traits.keys_alone is None or traits.gop_s in (None, math.inf)
    unproven = not traits.intra_only and unknown
    if demand.full or traits.keys_alone is False or unproven:
        assert plan.level == "FULL"
    assert plan.why


@given(st.lists(DEMANDS, min_size=1, max_size=4), DEMANDS)
def test_a_join_is_as_strict_as_each_of_its_parts(parts: list[Demand], another: Demand) -> None:
    """No task sees less because another one watches the same stream, and a join adds nothing."""
    whole = joined(parts)
    rank = get_args(specs.Priority).index
    for part in parts:
        assert whole.fps >= part.fps
        assert whole.min_visit_s <= part.min_visit_s
        assert whole.full >= part.full
        assert rank(whole.priority) >= rank(part.priority)
        assert set(part.needs) <= set(whole.needs)
    assert whole.fps in {part.fps for part in parts}
    assert whole.min_visit_s in {part.min_visit_s for part in parts}
    assert joined([parts[0]]) == parts[0]
    assert joined([whole, another]) == joined([*parts, another])


@given(DEMANDS, DEMANDS, DEMANDS)
def test_a_join_knows_no_order(a: Demand, b: Demand, c: Demand) -> None:
    """Tasks may come and go in any order: only the needs are listed as they came."""
    left, right = joined([joined([a, b]), c]), joined([a, joined([b, c])])
    assert left == right
    turned = joined([c, b, a])
    assert sorted(map(repr, turned.needs)) == sorted(map(repr, left.needs))
    assert (turned.fps, turned.min_visit_s, turned.full, turned.priority) == (
        left.fps, left.min_visit_s, left.full, left.priority,
    )  # fmt: skip


@given(st.floats(0.01, 100), st.floats(0.01, 100), TRAITS)
def test_a_stricter_demand_never_sees_less(a_s: float, b_s: float, traits: Traits) -> None:
    """A shorter visit never makes the decoder skip more."""
    strict, lax = (idle(wants(s), traits) for s in sorted((a_s, b_s)))
    if strict.level == "KEY":
        assert lax.level == "KEY"
        assert strict.key_every_s <= lax.key_every_s + EPSILON_S
        assert strict.then_s >= lax.then_s - EPSILON_S
