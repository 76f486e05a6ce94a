"""What one decode process was given to run, and how that fares as the agent knows it.

Here: a shard's streams and what it last said of them, whether its process lives just now or not.
Not here: its process (process), who is given what and why (shards, quarantine).
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from edge.pipe import Beat, ToShard
from edge.process import Process
from edge.reconcile import StreamKey, StreamWork, shortened
from wire.messages import ItemObserved, StreamHealth


@dataclass(eq=False)
class Allotment:
    """One shard's share of the streams."""

    number: int
    kind: Literal["common", "apart", "quarantine"] = "common"
    """apart: streams of which one is suspected; quarantine: one stream that has been convicted."""
    running: dict[StreamKey, StreamWork] = field(default_factory=dict)
    dark_since_s: dict[StreamKey, float] = field(default_factory=dict)
    """The streams that ran and wait for their next picture: monotonic time of the last one."""
    process: Process | None = None
    beat: Beat | None = None
    began_s: float = 0.0
    heard_s: float = 0.0
    """When the process began and was last heard, in monotonic seconds."""
    given_up: dict[int, float] = field(default_factory=dict)
    """Threads of it that do not come back, with the CPU seconds that each had used by then."""
    calm_after_s: float = 0.0
    """How long a process that is not common must live until its streams return."""
    released: bool = False
    reason: str = ""
    """Why the stream is in quarantine."""
    next_try: str = ""

    def send(self, message: ToShard) -> None:
        """Say something to the process, if there is one."""
        if self.process is not None:
            self.process.send(message)

    def darken(self, since_s: float) -> None:
        """Nobody looks at these streams any more."""
        for key in self.running:
            self.dark_since_s.setdefault(key, since_s)

    def note(self, beat: Beat, now_s: float) -> bool:
        """Take over what the process says; whether that is news."""
        before, self.beat, self.heard_s = self.beat, beat, now_s
        for stream in beat.streams:
            if stream.state == "running":
                self.dark_since_s.pop(StreamKey(stream.camera, stream.stream), None)
        return before is None or before.tasks != beat.tasks or _states(before) != _states(beat)

    def shown(self) -> dict[str, Any]:
        """For people; no pid: it does not live just now."""
        process = self.process
        return {
            "number": self.number,
            "kind": self.kind,
            "streams": len(self.running),
            "pid": None if process is None else process.pid,
            "memory_mb": 0 if process is None else process.memory_bytes() // 1_000_000,
        }

    def streams(self) -> list[StreamHealth]:
        """How every stream fares, as its process last said."""
        said = {(s.camera, s.stream): s for s in self.beat.streams} if self.beat else {}
        found = []
        for work in self.running.values():
            health = said.get((work.key.camera, work.key.stream)) or self._unheard(work)
            if self.kind == "quarantine" and not health.error:
                health = msgspec.structs.replace(health, error=self._told)
            found.append(health)
        return found

    def tasks(self) -> list[ItemObserved]:
        """The state of every task, as the process last said."""
        said = {(t.id, t.revision): t for t in self.beat.tasks} if self.beat else {}
        return [
            said.get((task.name, task.revision))
            or ItemObserved(
                kind="Task",
                id=task.name,
                revision=task.revision,
                state="Degraded" if self._waits else "Starting",
                reason=shortened(self._told) if self._waits else "",
            )
            for work in self.running.values()
            for task in work.tasks
        ]

    @property
    def _waits(self) -> bool:
        """Whether its stream is in quarantine and not even tried just now."""
        return self.kind == "quarantine" and self.process is None

    @property
    def _told(self) -> str:
        """For people: why the stream is in quarantine and when it is tried again."""
        again = f"; next try {self.next_try}" if self.next_try else ""
        return f"quarantined: {self.reason}{again}"

    def _unheard(self, work: StreamWork) -> StreamHealth:
        """Of a stream of which the process has said nothing yet, or cannot any more."""
        return StreamHealth(
            camera=work.key.camera,
            stream=work.key.stream,
            state="lost" if self._waits else "opening",
            wanted_fps=max((task.task.spec.fps for task in work.tasks), default=0.0),
            coverage=0.0 if work.key in self.dark_since_s else None,
        )


def _states(beat: Beat) -> list[tuple[str, str]]:
    return [(stream.camera, stream.state) for stream in beat.streams]
