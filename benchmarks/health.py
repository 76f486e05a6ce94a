"""Camera health: how soon each fault is found in real recordings, and what a quiet day raises.

Each fault of benchmarks/days.py is put into each of ten recordings of fixed cameras, after the
camera was seen for 30 s, looked at once a second. The delay is from the last good look on, as if
the fault had begun right after it. Days are rendered, one picture a minute; whatever they raise is
a false alarm. Bar: each fault within 5 s (frozen 10 s), no false alarm.

    python -m benchmarks.health --json
"""

import copy
import itertools
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from benchmarks import days, stage
from benchmarks.days import FAULTS, Grey
from edge.ailments import Ailments
from edge.video.decode import DecodeStats, frames, starting_at
from edge.video.source import packets
from edge.vision.health import LUMA_WIDTH, Doctor
from wire import specs
from wire.events import Event

RECORDINGS = (
    "car-detection.mp4",
    "one-by-one-person-detection.mp4",
    "person-bicycle-car-detection.mp4",
    "traffic_camera.mp4",
    "Traffic.mp4",
    "Traffic2.mp4",
    "Retail02_short.mp4",
    "walking.mp4",
    "house6.mp4",
    "video02.avi",
)
"""Cameras that stand still. One recording is too short, one a hand holds."""
LEARN_LOOKS = 30
FAULT_LOOKS = 6
BAR_S = {"frozen": 10.0}
"""Others: 5 s."""


def main() -> int:
    """1 if a fault was found too late or not at all, or a day raised one."""
    parser = stage.parser(__doc__)
    parser.add_argument("--days", type=int, default=2, help="rendered days")
    parser.add_argument("--every", type=int, default=1, help="minutes between a day's pictures")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    found: dict[str, dict[str, list[float | None]]] = {}
    false_alarms = 0
    missed = []
    for name in RECORDINGS:
        stage.say(name)
        seen = list(pictures(recording(name)))
        false_alarms += len(judged(looped(seen, 60), every_s=1.0))
        for fault, what, delay in delays(seen):
            found.setdefault(fault, {}).setdefault(what, []).append(delay)
            if delay is None or delay > BAR_S.get(fault, 5.0):
                missed.append(f"{fault}, {what}: {name}")
    raised = {}
    for seed in range(1, given.days + 1):
        stage.say(f"day {seed}")
        events = judged(days.day(seed, every=given.every), every_s=60.0 * given.every)
        raised[seed] = [f"{event.rule} at minute {event.t_ms // 60_000}" for event in events]
    every = [delay for kinds in found.values() for each in kinds.values() for delay in each]
    result = {
        "benchmark": "health",
        "recordings": len(RECORDINGS),
        "found": sum(delay is not None for delay in every),
        "injected": len(every),
        "missed_or_late": missed,
        "delay_s_max": {
            fault: max((d for each in kinds.values() for d in each if d is not None), default=None)
            for fault, kinds in found.items()
        },
        "false_alarms_recordings": false_alarms,
        "false_alarms_days": raised,
        "look_ms": look_ms(),
    }
    stage.finish(result, given)
    return int(bool(missed) or any(raised.values()) or false_alarms > 0)


def recording(name: str) -> Path:
    """A file of the assets."""
    folder = os.environ.get("FORECOURT_ASSETS", Path(__file__).parents[2] / "shared" / "assets")
    return Path(folder) / "videos" / name


def pictures(file: Path, every_s: float = 1.0, most: int = 30) -> Iterator[Grey]:
    """What a camera shows, as it is looked at: grey, at `LUMA_WIDTH`."""
    stream = specs.Stream(url=f"file://{quote(str(file.resolve()))}", pace="fast")
    due_s, given = 0.0, 0
    for frame in frames(packets(stream), anchor=starting_at(0), stats=DecodeStats()):
        if frame.pts_s >= due_s - 1e-6:
            due_s, given = frame.pts_s + every_s, given + 1
            yield frame.luma(LUMA_WIDTH).copy()
        if given >= most:
            return


def looped(seen: Sequence[Grey], looks: int, seed: int = 1) -> Iterator[Grey]:
    """A recording forth and back for so long, with a sensor's noise, so that it never repeats."""
    rng = np.random.default_rng(seed)
    for picture in itertools.islice(itertools.cycle([*seen, *seen[-2:0:-1]]), looks):
        noisy = picture + 0.8 * rng.standard_normal(picture.shape, np.float32)
        yield np.clip(noisy, 0, 255).astype(np.uint8)


class Camera:
    """One that is judged; stream time 0 is wall time 0."""

    def __init__(self) -> None:
        self._doctor = Doctor()
        self._ailments = Ailments("camera", "main", "bench", specs.Health())

    def shows(self, looks: Iterable[Grey], begin_s: float, every_s: float) -> Iterator[Event]:
        """The events of its faults; each picture is a key frame."""
        for number, picture in enumerate(looks):
            at_s = begin_s + number * every_s
            signs = self._doctor.look(picture, at_s, is_key=True)
            yield from self._ailments.look(signs, at_s, round(at_s * 1000), ("task",))


def judged(looks: Iterable[Grey], *, every_s: float) -> list[Event]:
    """The incidents of a camera that shows this, as they begin."""
    return [event for event in Camera().shows(looks, 0.0, every_s) if event.phase == "start"]


def delays(seen: Sequence[Grey], every_s: float = 1.0) -> Iterator[tuple[str, str, float | None]]:
    """Fault, what happened, and after how many seconds it was found; None: it was not."""
    whole = list(looped(seen, LEARN_LOOKS + FAULT_LOOKS))
    learned = Camera()
    for _ in learned.shows(whole[:LEARN_LOOKS], 0.0, every_s):
        pass
    for fault, kinds in FAULTS.items():
        for what, injure in kinds.items():
            rng = np.random.default_rng(2)
            hurt = [injure(picture, rng) for picture in whole[LEARN_LOOKS:]]
            yield fault, what, _delay(copy.deepcopy(learned), hurt, fault, every_s)
    still = [whole[LEARN_LOOKS - 1]] * (2 * FAULT_LOOKS)
    yield "frozen", "repeats", _delay(learned, still, "frozen", every_s)


def _delay(learned: Camera, looks: Sequence[Grey], fault: str, every_s: float) -> float | None:
    """Since the last look before it."""
    for event in learned.shows(looks, LEARN_LOOKS * every_s, every_s):
        if (event.rule, event.phase) == (fault, "start"):
            return event.t_ms / 1000 - (LEARN_LOOKS - 1) * every_s
    return None


def look_ms(looks: int = 60) -> float:
    """CPU milliseconds of a look, median."""
    seen = list(looped(list(pictures(recording(RECORDINGS[0]))), looks))
    doctor, spent = Doctor(), []
    for number, picture in enumerate(seen):
        began_s = time.thread_time()
        doctor.look(picture, float(number), is_key=True)
        spent.append(time.thread_time() - began_s)
    return round(1000 * statistics.median(spent), 2)


if __name__ == "__main__":
    raise SystemExit(main())
