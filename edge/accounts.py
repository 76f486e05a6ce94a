"""What a stream's tasks report, and what the stream has cost and given: plain counters.

Here: keeping and reading them. Not here: who counts (reader, shard), what a task has seen of what
it wanted (coverage).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from edge.analysis import Analysis
from edge.coverage import Coverage
from edge.reconcile import TaskWork, shortened
from edge.video.decode import DecodeStats
from wire.messages import ItemObserved, ItemState

_AWAKE_COST = 0.3
"""CPU seconds a second of an awake stream, until its own are known."""


class Streaming(Protocol):
    """What a task's state takes from its stream: see edge.reader.Reader."""

    state: Literal["opening", "running", "lost", "ended"]
    error: str

    @property
    def faults(self) -> Sequence[str]: ...


@dataclass
class TaskStatus:
    """What a task's item reports. Written by one thread at a time, read by the beat."""

    work: TaskWork
    coverage: Coverage
    analysis: Analysis | None = None
    rejected: str = ""
    awaited: str = ""
    """The model that it waits for, and how far that is; empty: it does not wait."""
    note: str = ""
    """What an operator should know of its model, though it works."""
    failure: str = ""
    """Why the last look failed, if it did."""
    unread: str = ""
    """Why plates could not be read last, if they could not."""
    looks: int = 0

    @property
    def model(self) -> str:
        """The name of its model."""
        return self.work.task.spec.model.name

    def observed(self, stream: Streaming, now_ms: int) -> ItemObserved:
        """The task's state, and why if it is not well or rests."""
        state: ItemState
        reason = ""
        if self.rejected:
            state, reason = "Rejected", self.rejected
        elif self.awaited:
            state, reason = "Starting", self.awaited
        elif stream.state in ("lost", "ended"):
            state, reason = "Degraded", stream.error
        elif self.failure or self.unread:
            state, reason = "Degraded", self.failure or self.unread
        elif stream.faults:
            state, reason = "Degraded", f"its camera: {', '.join(stream.faults)}"
        elif self.note:
            state, reason = "Degraded", self.note
        elif self.analysis is not None and not self.analysis.is_active(now_ms):
            until = self.analysis.rests_until(now_ms)
            state, reason = "Running", f"not active until {until}, by its schedule"
        else:
            state = "Running" if self.looks else "Starting"
        return ItemObserved(
            kind="Task",
            id=self.work.name,
            revision=self.work.revision,
            state=state,
            reason=shortened(reason),
        )


@dataclass
class Rates:
    """Counters of a stream, and their values at the last beat."""

    decode: DecodeStats = field(default_factory=DecodeStats)
    looks: int = 0
    at_s: float = 0.0
    frames_then: int = 0
    looks_then: int = 0

    def since(self, now_s: float) -> tuple[float, float]:
        """(decoded, analysed) per second since the last call."""
        passed_s = max(now_s - self.at_s, 1e-6)
        decoded = (self.decode.frames - self.frames_then) / passed_s
        looked = (self.looks - self.looks_then) / passed_s
        self.at_s, self.frames_then, self.looks_then = now_s, self.decode.frames, self.looks
        return round(decoded, 2), round(looked, 2)


@dataclass
class Spent:
    """What a stream has cost and suffered since the governor asked last."""

    reading_s: float = 0.0
    decoding_s: float = 0.0
    looking_s: float = 0.0
    """CPU seconds of its threads so far, and of the analyst for it."""
    before_s: float = 0.0
    missed: int = 0
    behind_s: float = 0.0
    awake_cost: float = _AWAKE_COST
    """CPU seconds a second while awake, lately."""

    def cpu_s(self) -> float:
        """CPU seconds since the last call."""
        spent_s = self.reading_s + self.decoding_s + self.looking_s
        used_s, self.before_s = spent_s - self.before_s, spent_s
        return max(0.0, used_s)
