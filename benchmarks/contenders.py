"""Ways to watch one recording, each in a process of its own: what it costs in CPU seconds.

    python -m benchmarks.contenders '{"way": "pipe", "file": "...", "schedule": [...]}'

Counted is user and system time of the process and its children from the moment at which all is
loaded until the last picture; decoder, OpenCV and ONNX Runtime have one thread each. Here: the ways
of others and ours. Not here: in which order they run and what is made of it (decode.py).
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks import streams
from edge.replay import Summary, replay
from edge.video.decode import Frame
from edge.vision.detect import Detections, Detector
from wire.events import Event, encode_event

Picture = npt.NDArray[np.uint8]
LOOKS_PER_S = 5
Decode = Literal["adaptive", "full"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Times of looks are stream time in milliseconds."""

    way: str
    file: str
    looks: dict[int, "Seen"] | None = None
    """What inference saw in another run, by the look's time: it is not done again."""
    schedule: tuple[int, ...] | None = None
    """When to infer, instead of at every look."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """Detections that a JSON can hold."""

    boxes: list[list[float]]
    scores: list[float]
    labels: list[str]


class Run(msgspec.Struct, kw_only=True):
    """What a run cost and found."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    pictures: int = 0
    """Pictures that were decoded, or came through the pipe."""
    inferences: int = 0
    looks: dict[int, Seen] = {}
    events: list[msgspec.Raw] = []
    summary: dict[str, Any] = {}


class Watched:
    """A network, or what it said in another run; what it said is kept either way."""

    def __init__(self, detector: Detector | None, looks: dict[int, Seen] | None) -> None:
        self.labels = streams.model().labels
        self._detector = detector
        self._looks = looks
        self.said: dict[int, Detections] = {}
        self.unknown = 0
        """Looks that the other run did not make: nothing is seen in them."""

    def detect_frame(self, frame: Frame) -> Detections:
        """What is in a frame."""
        t_ms = round(frame.pts_s * 1000)
        if self._detector is not None:
            detections = self._detector.detect_frame(frame)
        else:
            assert self._looks is not None
            self.unknown += t_ms not in self._looks
            detections = _detections(self._looks.get(t_ms, Seen([], [], [])))
        self.said[t_ms] = detections
        return detections


def _detections(seen: Seen) -> Detections:
    boxes = np.array(seen.boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(seen.scores, np.float32), tuple(seen.labels))


# --- the ways ----------------------------------------------------------------------------------


def ffmpeg(order: Order, run: Run) -> None:
    """FFmpeg's program decodes everything, to nowhere."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", order.file]
    subprocess.run([*command, "-f", "null", "-"], check=True)


def pyav(order: Order, run: Run) -> None:
    """The same in Python, bare."""
    with av.open(order.file) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            run.pictures += 1


def pipe(order: Order, run: Run) -> None:
    """FFmpeg's program decodes, scales to five pictures a second and pipes them to Python.

    There each goes through motion detection, as Frigate does it: a small grey picture against a
    running average. The network runs on the given schedule: that of our own run.
    """
    detector = Detector(streams.model(), threads=1)
    width, height = detector.input_size
    ratio = min(width / streams.WIDTH, height / streams.HEIGHT)
    size = (round(streams.WIDTH * ratio), round(streams.HEIGHT * ratio))
    wanted = {round(t_ms * LOOKS_PER_S / 1000) for t_ms in order.schedule or ()}
    motion = _motion()
    _ready()
    for number, small in enumerate(_piped(order.file, size)):
        motion(small)
        run.pictures += 1
        if number in wanted:
            padded = np.full((height, width, 3), 114, np.uint8)
            padded[: size[1], : size[0]] = small
            detector.detect([padded], [(streams.WIDTH, streams.HEIGHT)])
            run.inferences += 1


def _piped(file: str, size: tuple[int, int]) -> Iterator[Picture]:
    scaled = f"fps={LOOKS_PER_S},scale={size[0]}:{size[1]}"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", file, "-vf", scaled]
    command += ["-filter_threads", "1", "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    picture_bytes = size[0] * size[1] * 3
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=picture_bytes) as child:
        assert child.stdout is not None
        while len(data := child.stdout.read(picture_bytes)) == picture_bytes:
            yield np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3)
    if child.returncode:
        raise RuntimeError(f"ffmpeg ended with {child.returncode}")


def _motion() -> Callable[[Picture], int]:
    """How many places move: as Frigate does it by default, 100 rows, threshold 30, alpha 0.01."""
    average: npt.NDArray[np.float32] | None = None

    def moving(picture: Picture) -> int:
        nonlocal average
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        grey = cv2.resize(grey, (round(100 * grey.shape[1] / grey.shape[0]), 100))
        grey = cv2.GaussianBlur(grey, (3, 3), 0)
        if average is None:
            average = grey.astype(np.float32)
        delta = cv2.absdiff(grey, cv2.convertScaleAbs(average))
        cv2.accumulateWeighted(grey, average, 0.01)
        changed = cv2.threshold(delta, 30, 255, cv2.THRESH_BINARY)[1]
        changed = cv2.dilate(changed, np.ones((3, 3), np.uint8), iterations=1)
        return len(cv2.findContours(changed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0])

    return moving


def opencv(order: Order, run: Run) -> None:
    """OpenCV's VideoCapture decodes everything, the network sees every fifth picture."""
    detector = Detector(streams.model(), threads=1)
    width, height = detector.input_size
    ratio = min(width / streams.WIDTH, height / streams.HEIGHT)
    size = (round(streams.WIDTH * ratio), round(streams.HEIGHT * ratio))
    _ready()
    capture = cv2.VideoCapture(order.file, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    while capture.grab():
        if run.pictures % (streams.FPS // LOOKS_PER_S) == 0:
            picture = capture.retrieve()[1]
            padded = np.full((height, width, 3), 114, np.uint8)
            padded[: size[1], : size[0]] = cv2.resize(picture, size)
            detector.detect([padded], [(streams.WIDTH, streams.HEIGHT)])
            run.inferences += 1
        run.pictures += 1


def full(order: Order, run: Run) -> None:
    """Forecourt, which decodes everything."""
    _forecourt(order, run, "full")


def adaptive(order: Order, run: Run) -> None:
    """Forecourt as it is."""
    _forecourt(order, run, "adaptive")


def _forecourt(order: Order, run: Run, decode: Decode) -> None:
    task = streams.task()
    detector = Detector(streams.model(), threads=1) if order.looks is None else None
    watched = Watched(detector, order.looks)
    summary = Summary()
    _ready()
    events = list(_events(Path(order.file), task, watched, decode, summary))
    _ended()
    run.pictures = summary.frames_decoded
    run.inferences = len(watched.said) if detector is not None else 0
    run.looks = {
        t_ms: Seen(seen.boxes.tolist(), seen.scores.tolist(), list(seen.labels))
        for t_ms, seen in watched.said.items()
    }
    run.events = [msgspec.Raw(encode_event(event)) for event in events]
    run.summary = {**msgspec.to_builtins(summary), "unknown_looks": watched.unknown}


def _events(
    file: Path, task: Any, watched: Any, decode: Decode, summary: Summary
) -> Iterator[Event]:
    yield from replay(file, task, watched, decode=decode, summary=summary)


WAYS: dict[str, Callable[[Order, Run], None]] = {
    way.__name__: way for way in (ffmpeg, pyav, pipe, opencv, full, adaptive)
}


# --- counting ----------------------------------------------------------------------------------

_marks: dict[str, tuple[float, float]] = {}


def _ready() -> None:
    """From here on it counts."""
    _marks["ready"] = _spent()


def _ended() -> None:
    """Up to here it counts."""
    _marks["ended"] = _spent()


def _spent() -> tuple[float, float]:
    """CPU seconds of this process and its ended children, and the time."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used), time.monotonic()


def measured(order: Order) -> Run:
    """Run in a process of its own. Raises RuntimeError if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.contenders"],
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{order.way} of {Path(order.file).name} failed: {done.returncode}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Run)


def main(arguments: Sequence[str] = ()) -> int:
    """The order is read from stdin: with everything that was seen it is too long for a line."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    cv2.setNumThreads(1)
    run = Run()
    _ready()
    WAYS[order.way](order, run)
    _marks.setdefault("ended", _spent())
    (cpu_0, wall_0), (cpu_1, wall_1) = _marks["ready"], _marks["ended"]
    run.cpu_s, run.wall_s = cpu_1 - cpu_0, wall_1 - wall_0
    sys.stdout.buffer.write(msgspec.json.encode(run) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
