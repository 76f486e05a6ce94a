"""Who does with less when the CPU is short: on a simulated machine, second by second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from edge.budget import (
    CALM_S,
    LONGEST_CALM_S,
    PRIORITIES,
    STEPS,
    CatchUp,
    Governor,
    Step,
    StreamLoad,
    agent_share,
    divided,
    priority,
    weight,
)
from edge.metrics import Snapshot, exposition
from edge.reconcile import StreamKey, StreamWork, TaskWork
from wire import specs
from wire.messages import StreamHealth
from wire.specs import Priority, Stream

FULL, HALF, QUARTER, KEY = STEPS


@dataclass(frozen=True)
class Camera:
    """What a stream costs: CPU seconds a second for decoding, and for one look."""

    name: str
    priority: Priority = "normal"
    full: float = 0.17
    key: float = 0.02
    look: float = 0.026
    fps: float = 5.0
    awake: bool = True

    def cost(self, step: Step) -> float:
        """CPU seconds a second at a step."""
        if not self.awake:
            return self.key
        decoding = self.full if step.level == "FULL" else self.key
        return decoding + self.look * self.fps * step.fps_factor


@dataclass
class Machine:
    """A shard whose cgroup lets it use a tenth more than its budget; what is beyond is missed."""

    cameras: Sequence[Camera]
    budget: float
    governor: Governor = field(default_factory=Governor)
    now_s: float = 1000.0
    steps: Mapping[StreamKey, Step] = field(default_factory=dict)
    changed_s: list[tuple[float, float]] = field(default_factory=list)
    """(when, change of looks made a second) of every decision that changed something."""

    def step(self, camera: Camera) -> Step:
        """Where a camera's stream stands."""
        return self.steps.get(StreamKey(camera.name, "main"), FULL)

    def names(self) -> list[str]:
        """The steps' names, in the order of the cameras."""
        return [self.step(camera).name for camera in self.cameras]

    def depths(self, of: Priority) -> list[int]:
        """How far awake streams of a priority are degraded."""
        return [STEPS.index(self.step(c)) for c in self.cameras if c.priority == of and c.awake]

    def cost(self) -> float:
        """CPU seconds a second that the present steps ask for."""
        return sum(camera.cost(self.step(camera)) for camera in self.cameras)

    def run(self, seconds: int, budget: float | None = None) -> None:
        """Let time pass; every second the rules of the ladder are verified."""
        self.budget = self.budget if budget is None else budget
        for _ in range(seconds):
            self.now_s += 1
            before, self.steps = self.steps, self._decide()
            if before and before != self.steps:
                self.changed_s.append((self.now_s, _looks(self.steps) - _looks(before)))
            self.verify()

    def _decide(self) -> Mapping[StreamKey, Step]:
        asked, most = self.cost(), 1.1 * self.budget
        lack = max(0.0, 1 - most / asked) if asked else 0.0
        loads = [
            StreamLoad(
                StreamKey(c.name, "main"),
                c.priority,
                c.fps,
                c.awake,
                c.cost(self.step(c)) * (1 - lack),
                missed=round(c.fps * self.step(c).fps_factor * lack) if c.awake else 0,
            )
            for c in self.cameras
        ]
        return self.governor.decide(loads, min(asked, most), self.budget, self.now_s)

    def verify(self) -> None:
        """Equals are within one step; nobody is degraded while a lower priority has steps left."""
        lower_left = False
        for each in PRIORITIES:
            depths = self.depths(each)
            assert max(depths, default=0) - min(depths, default=0) <= 1
            assert not (lower_left and any(depths))
            lower_left |= any(depth < len(STEPS) - 1 for depth in depths)


def _looks(steps: Mapping[StreamKey, Step]) -> float:
    return sum(step.fps_factor - 0.1 * (step.level == "KEY") for step in steps.values())


def cameras(count: int, of: Priority = "normal", **costs: float) -> list[Camera]:
    """So many equal cameras."""
    return [replace(Camera(f"{of}-{n}", of), **costs) for n in range(count)]  # type: ignore[arg-type]


def test_within_the_budget_nothing_is_degraded() -> None:
    """A shard that has enough gives everybody all; without a budget, too."""
    machine = Machine(cameras(4), budget=1.5)
    machine.run(120)
    assert machine.names() == [""] * 4
    machine.run(60, budget=float("inf"))
    assert not machine.changed_s


def test_the_steps_are_told_by_their_names() -> None:
    """The metrics count them in the same order."""
    samples = (
        [s.value for family in _degraded(step.name) for s in family.samples] for step in STEPS
    )
    assert list(samples) == [[0.0], [1.0], [2.0], [3.0]]


def _degraded(step: str) -> list[Metric]:
    """The family of metrics that tells how far a stream is degraded."""
    stream = StreamHealth(camera="c", stream="main", state="running", step=step)
    snapshot = Snapshot(
        online=True, pending={}, shed=0, unstored=0, ignored_messages=0, shard_restarts={},
        quarantined=0, cores=1.0, catch_ups_dropped=0, facts_taken=0, facts_refused=0,
        posts_denied=0, coverage={}, streams=(stream,), items=(),
    )  # fmt: skip
    families = text_string_to_metric_families(exposition(snapshot).decode())
    return [f for f in families if f.name == "forecourt_edge_stream_degraded_steps"]


def test_the_lowest_priority_goes_first_and_only_as_far_as_is_needed() -> None:
    """Low streams halve their looks; that suffices, and the others notice nothing."""
    machine = Machine([*cameras(2, "low"), *cameras(2), *cameras(2, "high")], budget=1.7)
    machine.run(120)
    assert machine.names() == ["half", "half", "", "", "", ""]


def test_high_is_degraded_last() -> None:
    """Where nothing else helps, low and normal are at key frames before high loses a look."""
    machine = Machine([*cameras(2, "low"), *cameras(2), *cameras(2, "high")], budget=0.75)
    machine.run(200)
    assert machine.names()[:4] == ["key"] * 4
    assert set(machine.names()[4:]) <= {"half", ""}
    machine.run(60, budget=0.1)
    assert machine.names() == ["key"] * 6


def test_the_costliest_of_equals_goes_first() -> None:
    """Of two streams of one priority, the one from which most is to be had."""
    small, large = Camera("small", full=0.05), Camera("large", full=0.6)
    machine = Machine([small, large], budget=0.87)
    machine.run(60)
    assert machine.names() == ["", "half"]


def test_missed_looks_and_lag_count_like_cores() -> None:
    """A shard may be short of one thread while its budget has room: looks then tell."""
    load = StreamLoad(StreamKey("c", "main"), "normal", 5.0, True, 0.5)
    for short in (replace(load, missed=1), replace(load, behind_s=3.0)):
        governor = Governor()
        names = [governor.decide([short], 0.5, 4.0, s)[short.key].name for s in range(4)]
        assert names == ["", "", "half", "half"]


def test_a_stream_that_catches_up_is_left_alone() -> None:
    """A lag that shrinks by itself needs no step; nor does a single bad second."""
    governor = Governor()
    load = StreamLoad(StreamKey("c", "main"), "normal", 5.0, True, 0.5)
    for second in range(20):
        behind_s = max(0.0, 10.0 - 0.5 * second)
        missed = 5 if second == 10 else 0
        now = replace(load, behind_s=behind_s, missed=missed)
        assert governor.decide([now], 0.5, 1.0, float(second))[load.key] is FULL


def test_room_restores_one_after_the_other() -> None:
    """When the load is gone, all come back, the last degraded first, not before it was calm."""
    machine = Machine([*cameras(4, "low"), *cameras(4)], budget=1.0)
    machine.run(120)
    assert "key" in machine.names()
    eased_s = machine.now_s
    machine.run(400, budget=4.0)
    assert machine.names() == [""] * 8
    back_s = [at_s for at_s, change in machine.changed_s if at_s > eased_s]
    assert back_s[0] - eased_s >= CALM_S
    assert all(b - a >= CALM_S for a, b in pairwise(back_s))


def test_a_step_that_does_not_hold_is_tried_ever_more_seldom() -> None:
    """A machine between two steps does not flap: 10 s, 20 s, 40 s… up to five minutes."""
    machine = Machine([Camera("c", full=0.1, look=0.2)], budget=0.8)
    machine.run(1500)
    tries = [at_s for at_s, change in machine.changed_s if change > 0]
    waits = [b - a for a, b in pairwise(tries)]
    assert len(tries) < 10
    assert waits == sorted(waits)
    assert LONGEST_CALM_S <= waits[-1] <= LONGEST_CALM_S + 10
    assert machine.names() == ["half"]


def test_who_wakes_is_where_its_equals_are() -> None:
    """Idle streams cost no decisions, and one that wakes has no more than those that are awake."""
    idle = [replace(camera, name=f"idle-{n}", awake=False) for n, camera in enumerate(cameras(12))]
    machine = Machine([*cameras(4), *idle], budget=1.0)
    machine.run(40)
    machine.cameras = [*cameras(4), *(replace(c, awake=True) for c in idle[:2]), *idle[2:]]
    machine.run(1)
    assert machine.depths("normal")
    machine.run(100)
    assert machine.cost() <= machine.budget


def test_streams_come_go_and_change_their_priority() -> None:
    """Whoever is told of is answered for, and nobody else."""
    machine = Machine(cameras(6), budget=0.6)
    machine.run(25)
    machine.cameras = [replace(c, priority="low") for c in machine.cameras[:3]]
    machine.run(30)
    assert len(machine.steps) == 3
    machine.cameras = []
    machine.run(30)
    assert machine.steps == {}


@settings(max_examples=25, deadline=None)
@given(
    fleet=st.lists(
        st.builds(
            Camera,
            name=st.just("c"),
            priority=st.sampled_from(PRIORITIES),
            full=st.floats(0.02, 0.9),
            key=st.floats(0.001, 0.02),
            look=st.floats(0.005, 0.1),
            fps=st.sampled_from([1.0, 5.0, 15.0]),
            awake=st.sampled_from([True, True, True, False]),
        ),
        min_size=1,
        max_size=16,
    ),
    share=st.floats(0.1, 1.5),
)
def test_it_converges_whatever_the_streams_cost(fleet: list[Camera], share: float) -> None:
    """Cost ends within the budget if it can, within a minute and a half, and hardly moves then."""
    fleet = [replace(camera, name=f"c{number}") for number, camera in enumerate(fleet)]
    machine = Machine(fleet, budget=share * sum(camera.cost(FULL) for camera in fleet))
    machine.run(90)
    settled_s = machine.now_s
    machine.run(600)
    machine.run(0 if machine.cost() <= machine.budget else 20)  # a try may just be under way
    at_the_end = all(machine.step(camera) is KEY for camera in fleet if camera.awake)
    assert machine.cost() <= machine.budget or at_the_end
    moves = [change for at_s, change in machine.changed_s if at_s > settled_s]
    downs = [change for change in moves if change < 0]
    assert len(downs) <= 16
    restored_s = [at_s for at_s, change in machine.changed_s if change > 0]
    assert all(b - a >= CALM_S for a, b in pairwise(restored_s))


# --- among shards, and catch-up ----------------------------------------------------------------


def work(name: str, *priorities: Priority) -> StreamWork:
    """A stream with a task of each priority."""
    tasks = []
    for each in priorities:
        rules = [{"name": "r", "when": {"class": "car"}}]
        spec = {"camera": name, "priority": each, "model": {"name": "m"}, "rules": rules}
        metadata = {"name": f"{name}-{each}", "station": "s"}
        task = specs.parse({"kind": "Task", "metadata": metadata, "spec": spec})
        assert isinstance(task, specs.Task)
        tasks.append(TaskWork(task, 1))
    return StreamWork(StreamKey(name, "main"), Stream(url="rtsp://h/1"), tuple(tasks))


@pytest.mark.parametrize(
    ("cores", "kept"), [(8.0, 0.8), (2.0, 0.2), (0.5, 0.1), (0.2, 0.1), (0.1, 0.05)]
)
def test_the_agent_keeps_a_share(cores: float, kept: float) -> None:
    """A tenth, at least a tenth of a core, never more than half."""
    assert agent_share(cores) == pytest.approx(kept)


def test_shards_share_by_weight() -> None:
    """Streams count by the highest priority of their tasks; an empty shard gets nothing."""
    first = [work("a", "low", "high"), work("b", "normal")]
    second = [work("c", "low"), work("d", "normal", "low")]
    assert [priority(each) for each in (*first, *second)] == ["high", "normal", "low", "normal"]
    cores = divided(2.0, [weight(first), weight(second), weight([])])
    assert cores == pytest.approx((1.2, 0.6, 0.0))
    assert divided(2.0, [0.0, 0.0]) == (0.0, 0.0)


def test_catch_up_spends_its_own_share() -> None:
    """It may burst, then has 30 % of the budget; what is refused is counted."""
    bucket = CatchUp(share=0.3, burst_s=10.0)
    assert bucket.allows(1000.0, 0.0)
    bucket.set_budget(0.5, 1.0)
    assert [bucket.allows(2.0, 1.0) for _ in range(3)] == [True, True, False]
    assert bucket.dropped == 1
    assert not bucket.allows(2.0, 7.5)
    assert bucket.allows(2.0, 8.0)
    spent_s = sum(0.5 for second in range(10_000) if bucket.allows(0.5, 8.0 + second * 0.1))
    assert spent_s == pytest.approx(0.15 * 1000, rel=0.05)


def test_a_long_gop_has_its_chance() -> None:
    """What costs more than the bucket ever holds is allowed when it is full, then paid off."""
    bucket = CatchUp(share=0.3, burst_s=10.0)
    bucket.set_budget(0.1, 0.0)
    assert bucket.allows(4.0, 0.0)
    assert not bucket.allows(4.0, 100.0)
    assert bucket.allows(4.0, 134.0)


def test_a_clock_that_stands_gives_nothing() -> None:
    """Two questions at one moment do not fill the bucket twice, nor does an earlier one."""
    bucket = CatchUp(share=0.3, burst_s=1.0)
    bucket.set_budget(1.0, 10.0)
    assert bucket.allows(1.0, 10.0)
    assert not bucket.allows(0.1, 10.0)
    assert not bucket.allows(0.1, 9.0)
