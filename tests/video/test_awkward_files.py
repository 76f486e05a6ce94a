"""Recordings of every container, codec and ailment: analysed, or refused with a clear reason.

A process of its own views them, so that one that hangs or crashes it is found out by name.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parts import clips

DEADLINE_S = 30.0
"""For a single file on a busy machine."""
LIMIT_S = 0.6
"""Of each recording's time."""
MEMORY_MB = 250
"""What any file may take, the model included; 8K is the exception."""

_NO_VIDEO = "it has no video track"
_UNREADABLE = "what comes is no video that can be read"
REFUSED = {
    "awkward/sample_ait.ts": _NO_VIDEO,
    "awkward/sample_audio_only.mp4": _NO_VIDEO,
    "awkward/sample_malformed_free_box.mp4": _UNREADABLE,
    "awkward/invalid-bitstream.webm": "not one of its 51 packets could be decoded",
}
FRAMES = {
    "Retail02_short.mp4": 30,
    "Traffic.mp4": 30,
    "Traffic2.mp4": 25,
    "car-detection.mp4": 12,
    "cars_768x768.h264": 25,
    "house6.mp4": 30,
    "one-by-one-person-detection.mp4": 10,
    "person-bicycle-car-detection.mp4": 12,
    "test2-cam-person1.mkv": 10,
    "traffic_camera.mp4": 25,
    "video02.avi": 20,
    "walking.mp4": 25,
    "worker-zone-detection.gif": 16,
    "awkward/8k24fps_300ms.mp4": 8,
    "awkward/MOV00006.3gp": 12,
    "awkward/bear-vp9-odd-dimensions.webm": 29,
    "awkward/corrupted.mp4": 8,
    "awkward/foreman-hevc-384.mp4": 23,
    "awkward/hevc.h265": 25,
    "awkward/issue53_brightness_change.avi": 12,
    "awkward/long_1080p_videoonly_lowbitrate.mp4": 30,
    "awkward/photo-jpeg.mov": 5,
    "awkward/sample.avi": 23,
    "awkward/sample.flv": 25,
    "awkward/sample_empty_track.mp4": 25,
    "awkward/sample_fragmented.mp4": 25,
    "awkward/sample_h265.ts": 25,
    "awkward/sample_mdat_too_long.mp4": 25,
    "awkward/sample_rotate_and_reflect.mp4": 25,
    "awkward/sample_vvc.mp4": 24,
    "awkward/sample_with_invalid_nalu.mp4": 25,
    "awkward/sample_without_stss.mp4": 5,
    "awkward/sd-hls0000000000.ts": 20,
    "awkward/traffic_camera_vfr.mp4": 20,
    "awkward/unordered.mov": 4,
    "awkward/video_90.mov": 3,
    "awkward/xdcam-ex-1080i50.mov": 25,
}
"""So many frames come out of each at least; where every picture is a key, not all are needed."""
LARGE_MB = {"awkward/8k24fps_300ms.mp4": 600}

_TASK = {
    "kind": "Task",
    "metadata": {"name": "any", "station": "s0001"},
    "spec": {
        "camera": "c",
        "fps": 1,
        "model": {"name": "yolox-nano"},
        "rules": [{"name": "someone", "when": {"class": ["person", "car"]}, "severity": "info"}],
    },
}


@pytest.fixture(scope="module")
def viewed() -> dict[str, dict[str, Any]]:
    """What became of each file, by name; those that hung or crashed the viewer have no entry."""
    names = [*FRAMES, *REFUSED]
    model = str(clips.asset("models/yolox_nano.onnx"))
    left = [str(clips.asset(f"videos/{name}")) for name in names]
    found: dict[str, dict[str, Any]] = {}
    while left:
        for answer in _answers({"files": left, "model": model, "task": _TASK, "limit_s": LIMIT_S}):
            found[answer["file"]] = answer
            left = left[1:]
        left = left[1:]  # the one that it did not survive
    root = str(clips.asset("videos"))
    return {file.removeprefix(f"{root}/"): answer for file, answer in found.items()}


def _answers(question: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The viewer's answers, until it ends or says nothing for too long."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.parts.viewer"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert process.stdin is not None
    assert process.stdout is not None
    output = process.stdout

    def listen() -> None:
        for line in output:
            lines.put(line)
        lines.put("")

    listener = threading.Thread(target=listen, daemon=True)
    try:
        listener.start()
        process.stdin.write(json.dumps(question))
        process.stdin.close()
        with contextlib.suppress(queue.Empty):
            while line := lines.get(timeout=DEADLINE_S):
                yield json.loads(line)
    finally:
        process.kill()
        process.wait(10)
        listener.join(10)
        output.close()


@pytest.mark.timeout(180)  # whichever test comes first waits for all files
@pytest.mark.parametrize("name", FRAMES)
def test_a_file_is_analysed(name: str, viewed: dict[str, dict[str, Any]]) -> None:
    """Its frames come out in order, and it takes no more memory than it may."""
    assert name in viewed, "it hangs, or takes the process down"
    found = viewed[name]
    assert found["refused"] == ""
    assert found["frames"] >= FRAMES[name]
    assert found["in_order"]
    assert found["memory_mb"] < LARGE_MB.get(name, MEMORY_MB)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused(name: str, viewed: dict[str, dict[str, Any]]) -> None:
    """One sentence names the file and the reason."""
    assert name in viewed, "it hangs, or takes the process down"
    refused = viewed[name]["refused"]
    assert REFUSED[name] in refused
    assert name in refused
    assert "; look" in refused or "; choose" in refused


def test_every_awkward_file_is_expected() -> None:
    """A file that is new among the assets gets an expectation."""
    folder = clips.asset("videos/awkward")
    there = {f"awkward/{file.name}" for file in folder.iterdir() if file.is_file()}
    assert there <= FRAMES.keys() | REFUSED.keys()
