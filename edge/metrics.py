"""What the worker tells Prometheus, from one snapshot of its state. Not here: counting."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wire.messages import ItemObserved, StreamHealth


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The worker at a moment."""

    online: bool
    pending: dict[str, int]
    shed: int
    unstored: int
    ignored_messages: int
    shard_restarts: Mapping[str, int]
    """By cause."""
    quarantined: int
    cores: float
    catch_ups_dropped: int
    facts_taken: int
    facts_refused: int
    posts_denied: int
    coverage: Mapping[str, float]
    streams: tuple[StreamHealth, ...]
    items: tuple[ItemObserved, ...]
    plates_shed: int = 0


class _Collector(Collector):
    """Gives prometheus-client the families of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        now = self._snapshot
        yield _gauge("online", "1 while the center has welcomed this worker", now.online)
        pending = _gauge("events_pending", "events that the center has not acknowledged", "lane")
        for lane, count in now.pending.items():
            pending.add_metric([lane], count)
        yield pending
        yield _counter("events_shed", "events given up, each covered by a declared gap", now.shed)
        yield _gauge("events_unstored", "events that wait for the disk", now.unstored)
        yield _counter("messages_ignored", "of other sessions, or unreadable", now.ignored_messages)
        restarts = CounterMetricFamily(
            "forecourt_edge_shard_restarts", "decode processes started again", labels=["cause"]
        )
        for cause, count in now.shard_restarts.items():
            restarts.add_metric([cause], count)
        yield restarts
        yield _gauge("streams_quarantined", "in processes of their own", now.quarantined)
        yield _gauge("cpu_budget_cores", "cores that this worker allows itself", now.cores)
        yield _counter(
            "catch_ups_dropped", "times that what was left out stayed so", now.catch_ups_dropped
        )
        yield _counter("facts_taken", "facts of inputs that were taken", now.facts_taken)
        yield _counter("facts_refused", "facts of inputs that were refused", now.facts_refused)
        yield _counter("input_posts_denied", "posts without the station token", now.posts_denied)
        yield _counter("plates_shed", "pictures with a plate not read in time", now.plates_shed)
        for name, text, value in _STREAM_GAUGES:
            family = _gauge(name, text, "camera", "stream")
            for stream in now.streams:
                family.add_metric([stream.camera, stream.stream], value(stream))
            yield family
        running = _gauge("task_running", "1 while a task is at work", "task")
        for item in now.items:
            if item.kind == "Task":
                running.add_metric([item.id], float(item.state == "Running"))
        yield running
        covered = _gauge(
            "task_coverage_ratio", "looks made / looks wanted over the last minute", "task"
        )
        for task, ratio in now.coverage.items():
            covered.add_metric([task], ratio)
        yield covered


_STEPS = ("", "half", "quarter", "key")
_STREAM_GAUGES: tuple[tuple[str, str, Callable[[StreamHealth], float]], ...] = (
    ("stream_up", "1 while a stream gives pictures", lambda s: float(s.state == "running")),
    ("stream_decoded_fps", "pictures decoded per second", lambda s: s.decoded_fps),
    ("stream_analysed_fps", "pictures analysed per second", lambda s: s.analysed_fps),
    (
        "stream_coverage_ratio",
        "looks made / looks wanted over the last minute; NaN while none was wanted",
        lambda s: math.nan if s.coverage is None else s.coverage,
    ),
    (
        "stream_degraded_steps",
        "0 as wished, 1 half of the looks, 2 a quarter, 3 key frames only, for want of CPU",
        lambda s: float(_STEPS.index(s.step)) if s.step in _STEPS else math.nan,
    ),
)


def _gauge(name: str, text: str, *value_or_labels: float | str) -> GaugeMetricFamily:
    labels = [label for label in value_or_labels if isinstance(label, str)]
    values = [value for value in value_or_labels if not isinstance(value, str)]
    value = float(values[0]) if values else None
    return GaugeMetricFamily(f"forecourt_edge_{name}", text, value, labels or None)


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"forecourt_edge_{name}", text, value)


def exposition(snapshot: Snapshot) -> bytes:
    """The snapshot in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    return generate_latest(registry)
