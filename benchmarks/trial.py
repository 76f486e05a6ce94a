"""One recording, once decoded in full and once adaptively, and what came of it.

Here: both runs, with the same detector and the same task, and their figures. Not here: which
recordings (recall.py), how incidents are compared (incidents.py).

The detector is deterministic. So the adaptive run is given what the full run inferred, where it
looks at the same picture: same time and same brightness in every pixel. That saves half of the
inferences, and shows pictures that come out otherwise when less is decoded: they are counted.
"""

import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from benchmarks.incidents import Agreement, Incident, compare, incidents
from edge.replay import Decode, Summary, replay
from edge.video import demand
from edge.video.decode import Frame
from edge.video.errors import SourceError
from edge.vision.detect import Detections, Detector
from edge.watch import Seen
from wire import specs
from wire.events import Event


class Network(Protocol):
    """What an analysis needs of a detector."""

    @property
    def labels(self) -> tuple[str, ...]: ...
    def detect_frame(self, picture: Frame) -> Detections: ...


class Remembering:
    """A detector that infers each picture of a recording once. For one recording."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[float, dict[int, Detections]] = {}
        self.cpu_s = 0.0
        """Spent here; not part of what is compared."""
        self.other_pictures = 0
        """Looks at a moment that is known, with another picture than then."""

    @property
    def labels(self) -> tuple[str, ...]:
        return self._network.labels

    def detect_frame(self, picture: Frame) -> Detections:
        began_s = time.process_time()
        shown = _print_of(picture)
        known = self._known.setdefault(round(picture.pts_s, 5), {})
        if shown not in known:
            self.other_pictures += bool(known)
            known[shown] = self._network.detect_frame(picture)
        self.cpu_s += time.process_time() - began_s
        return known[shown]

    def count_anew(self) -> None:
        """Begin the next run over the same recording."""
        self.cpu_s = 0.0
        self.other_pictures = 0


def _print_of(picture: Frame) -> int:
    """A checksum of the luma plane without its padding."""
    plane = picture.picture.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * plane.height]
    shown = rows.reshape(plane.height, plane.line_size)[:, : plane.width]
    return zlib.crc32(shown.tobytes())


@dataclass(slots=True)
class Run:
    """One way over a recording."""

    events: list[Event] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)
    looks_ms: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    """Without inference."""
    refused: str = ""
    """Why it could not be read to its end."""


Way = Callable[[Path, specs.Task, Network], Run]


@dataclass(slots=True)
class Trial:
    """What both ways over one recording gave."""

    recording: str
    variant: str
    agreement: Agreement
    full: Run
    adaptive: Run
    look_s: float
    other_pictures: int = 0

    @property
    def agrees(self) -> bool:
        """Same incidents at the same times; refused alike."""
        return self.agreement.agrees and bool(self.full.refused) == bool(self.adaptive.refused)

    @property
    def awake_share(self) -> float:
        """Of the recording's time, that in which something changed or might have."""
        video_s = self.adaptive.summary.video_s
        return 1.0 - self.adaptive.summary.idle_s / video_s if video_s else 1.0


def in_full(file: Path, task: specs.Task, network: Network) -> Run:
    """Every frame is decoded and every due one inferred."""
    return _run(file, task, network, "full")


def adaptively(file: Path, task: specs.Task, network: Network) -> Run:
    """As a worker does it, unless its task says otherwise."""
    return _run(file, task, network, "adaptive")


def _run(file: Path, task: specs.Task, network: Network, decode: Decode) -> Run:
    run = Run()
    detector = cast(Detector, network)
    looks_ms = run.looks_ms

    def looked(seen: Seen) -> None:
        looks_ms.append(seen.frame.t_ms)

    began_s = time.process_time()
    try:
        for event in replay(
            file, task, detector, decode=decode, summary=run.summary, on_look=looked
        ):
            run.events.append(event)
    except SourceError as error:
        run.refused = str(error)
    run.cpu_s = time.process_time() - began_s
    return run


def tried(
    file: Path,
    task: specs.Task,
    network: Network,
    *,
    recording: str = "",
    variant: str = "",
    seen_by: str = "",
    still_ms: Sequence[tuple[int, int]] = (),
    adaptive: Way = adaptively,
) -> Trial:
    """Both ways over a recording. `seen_by` is the task's rule that sees every object; during
    `still_ms` surely nothing changes in the picture."""
    remembering = Remembering(network)
    runs: list[Run] = []
    for way in (in_full, adaptive):
        remembering.count_anew()
        runs.append(way(file, task, remembering))
        runs[-1].cpu_s -= remembering.cpu_s
    full, other = runs
    agreement = compare(
        _incidents(full, task, seen_by),
        _incidents(other, task, seen_by),
        {need.rule: need.min_visit_s for need in demand.of_task(task).needs},
        full.looks_ms,
        still_ms,
    )
    return Trial(
        recording or file.stem, variant, agreement, full, other,
        1 / task.spec.fps, remembering.other_pictures,
    )  # fmt: skip


def _incidents(run: Run, task: specs.Task, seen_by: str) -> list[Incident]:
    return incidents(run.events, 1 / task.spec.fps, seen_by)


def cpu_ratio(trials: Iterable[Trial]) -> float | None:
    """CPU of the adaptive runs ÷ that of the full ones, both without inference."""
    told = list(trials)
    full_s = sum(trial.full.cpu_s for trial in told)
    return sum(trial.adaptive.cpu_s for trial in told) / full_s if full_s > 0 else None
