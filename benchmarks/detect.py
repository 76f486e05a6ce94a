"""What our path costs around a network: pictures a second, ours ÷ a bare `InferenceSession.run`.

    python -m benchmarks.detect --json

Ours begins with a picture that is already of the input's size, as the frame of a stream comes out
of its conversion, and ends with detections. What that conversion costs, straight from the decoder's
YUV at 720p and 1080p, is measured apart (`frame_ms`). The bare run gets its tensor ready made. Both
have the same options and threads and take turns; the ratio is the median of those of neighbours,
since a machine that others use changes from one second to the next. `cpu_ratio` is of the CPU time
of the process. Memory is that of a process of its own with one network at work.

Ends with 1 if `detect_ratio` (YOLOX-nano, batch 1) is below the bar.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort  # type: ignore[import-untyped]

from benchmarks import stage
from edge.video.decode import Frame, frames, starting_at
from edge.video.source import Packet
from edge.vision.detect import Detector
from edge.vision.manifest import Manifest, at, bare

LEAST_RATIO = 0.90
SECONDS = 12.0
"""For each network and batch size."""
LEAST_TURNS = 10
BATCHES = (1, 4, 8)
RECORDING = "videos/traffic_camera.mp4"
LABELS = {"ultraface_rfb_320": ("face",), "hyperlpr_plate_320": ("single", "double")}
FIRST = "yolox_nano"


def main() -> int:
    """0 when within the bar."""
    parser = stage.parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each network [12]")
    default = os.environ.get("FORECOURT_ASSETS", str(stage.ROOT.parent / "shared" / "assets"))
    parser.add_argument("--assets", type=Path, default=Path(default))
    parser.add_argument("--memory-of", type=Path, help="load one network and print its memory")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.memory_of is not None:
        print(_memory_mb(given.memory_of, given.threads))
        return 0
    pictures = list(_pictures(given.assets / RECORDING, max(BATCHES)))
    result: dict[str, Any] = {"threads": given.threads, "models": {}}
    for path in _networks(given.assets):
        name = path.parent.name if path.name == "model.onnx" else path.stem
        stage.say(name)
        result["models"][name] = _measured(path, pictures, given.threads, given.seconds)
    result["detect_ratio"] = result["models"][FIRST]["batch_1"]["ratio"]
    stage.finish(result, given)
    return 0 if result["detect_ratio"] >= LEAST_RATIO else 1


def _networks(assets: Path) -> Iterator[Path]:
    first = assets / "models" / f"{FIRST}.onnx"
    yield first
    yield from sorted(each for each in first.parent.glob("*.onnx") if each != first)
    yield stage.ROOT / "models" / "forecourt-nano" / "model.onnx"


def _measured(
    path: Path, pictures: Sequence[Frame], threads: int, seconds: float
) -> dict[str, Any]:
    detector = Detector(_manifest(path), threads=threads)
    session = _session(path, threads)
    told: dict[str, Any] = {"layout": detector.layout, "input": list(detector.input_size)}
    shape = session.get_inputs()[0].shape
    for batch in BATCHES if not isinstance(shape[0], int) else (1,):
        told[f"batch_{batch}"] = _side_by_side(
            detector, session, pictures[:batch], seconds / len(BATCHES)
        )
    told["frame_ms"] = {
        f"{height}p": round(_conversion_ms(detector, pictures[0], height), 2)
        for height in (720, 1080)
    }
    command = [sys.executable, "-m", "benchmarks.detect", "--memory-of", str(path)]
    said = subprocess.run(
        [*command, "--threads", str(threads)],
        capture_output=True,
        text=True,
        check=True,
        cwd=stage.ROOT,
    )
    told["memory_mb"] = float(said.stdout)
    return told


def _side_by_side(
    detector: Detector, session: Any, pictures: Sequence[Frame], seconds: float
) -> dict[str, float]:
    """Milliseconds a picture, ours and bare, taking turns; and their ratio."""
    wants = detector.pixels
    images = [
        each.image(*detector.input_size, resize=wants.resize, pad=wants.pad, color=wants.color)
        for each in pictures
    ]
    sizes = [each.size for each in pictures]
    feeds = _feeds(session, detector, images)
    ours = _timer(lambda: detector.detect(images, sizes))
    alone = _timer(lambda: session.run(None, feeds))
    ours(), alone()  # what is made once is not measured
    turns: list[tuple[Took, Took]] = []
    until_s = time.monotonic() + seconds
    while len(turns) < LEAST_TURNS or time.monotonic() < until_s:
        turns.append((ours(), alone()) if len(turns) % 2 else (alone(), ours())[::-1])
    count = len(pictures)
    ours_s = statistics.median(one.wall_s for one, _ in turns)
    alone_s = statistics.median(other.wall_s for _, other in turns)
    ratios = [other.wall_s / one.wall_s for one, other in turns]
    cpu_ratio = sum(other.cpu_s for _, other in turns) / sum(one.cpu_s for one, _ in turns)
    return {
        "ours_ms": round(ours_s / count * 1000, 3),
        "bare_ms": round(alone_s / count * 1000, 3),
        "pictures_per_s": round(count / ours_s, 2),
        "ratio": round(statistics.median(ratios), 4),
        "cpu_ratio": round(cpu_ratio, 4),
        "found": len(detector.detect(images, sizes)[0]),
    }


class Took(NamedTuple):
    """How long one call took, and what it cost."""

    wall_s: float
    cpu_s: float


def _timer(work: Callable[[], object]) -> Callable[[], Took]:
    def timed() -> Took:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        work()
        return Took(time.perf_counter() - began_s, time.process_time() - cpu_s)

    return timed


def _conversion_ms(detector: Detector, frame: Frame, height: int) -> float:
    """From a decoder's picture of that height to the input's size, median."""
    picture = frame.picture.reformat(width=height * 16 // 9, height=height, format="yuv420p")
    wants = detector.pixels
    took: list[float] = []
    for _ in range(30):
        fresh = Frame(picture, 0.0, 0, 0, True, frame._scalers)
        began_s = time.perf_counter()
        fresh.image(*detector.input_size, resize=wants.resize, pad=wants.pad, color=wants.color)
        took.append(time.perf_counter() - began_s)
    return statistics.median(took) * 1000


def _feeds(
    session: Any, detector: Detector, images: Sequence[npt.NDArray[np.uint8]]
) -> dict[str, Any]:
    """The tensor, ready made, without our converter."""
    wants = detector.pixels
    floats = np.stack(images).astype(np.float32) * np.float32(wants.scale)
    ready = (floats - np.array(wants.mean, np.float32)) / np.array(wants.std, np.float32)
    first, *more = session.get_inputs()
    feeds: dict[str, Any] = {first.name: np.ascontiguousarray(ready.transpose(0, 3, 1, 2))}
    for each in more:
        feeds[each.name] = np.array([detector.input_size] * len(images), np.int64)
    return feeds


def _session(path: Path, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _manifest(path: Path) -> Manifest:
    if path.name == "model.onnx":
        return at(path.parent)
    return Manifest.model_validate({**dict(bare(path)), "labels": LABELS.get(path.stem, ())})


def _pictures(recording: Path, count: int) -> Iterator[Frame]:
    """The first pictures of a recording, as a stream has them."""
    with av.open(str(recording)) as container:
        track = container.streams.video[0]
        some = (
            Packet(data, float(data.pts * track.time_base), data.is_keyframe, data.size, 25.0)
            for data in container.demux(track)
            if data.size and data.pts is not None and track.time_base is not None
        )
        for number, frame in enumerate(frames(some, anchor=starting_at(0))):
            if number == count:
                return
            yield frame


def _memory_mb(path: Path, threads: int) -> float:
    """The most memory that this process ever had, with the network at work."""
    detector = Detector(_manifest(path), threads=threads)
    width, height = detector.input_size
    for _ in range(3):
        detector.detect([np.zeros((height, width, 3), np.uint8)], [(width, height)])
    return stage.peak_rss_mb(os.getpid())


if __name__ == "__main__":
    raise SystemExit(main())
