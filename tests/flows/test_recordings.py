"""On real recordings, replay finds the incidents that a person sees, and no others.

What a person sees stands beside this file, in recordings/*.yaml, with the task. The times were read
by eye from extracted frames; where they or the task were corrected after a run, the file says why.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.replay import replay
from edge.video.source import SourceError
from edge.vision.detect import Detector
from edge.vision.manifest import at
from tests.parts.clips import asset
from wire import specs
from wire.events import Event

_CASES = sorted(Path(__file__).with_name("recordings").glob("*.yaml"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    """The real network."""
    return Detector(at(asset("models/yolox_nano.onnx")))


@pytest.mark.parametrize("case", _CASES, ids=lambda path: path.stem)
def test_finds_what_a_person_sees(case: Path, detector: Detector) -> None:
    """Every incident that a person sees is found at its time, and nothing else."""
    script: dict[str, Any] = yaml.safe_load(case.read_text())
    task = specs.parse(script["task"])
    assert isinstance(task, specs.Task)
    recording = asset(f"videos/{script['recording']}")

    events = list(replay(recording, task, detector, limit_s=script.get("limit_s")))

    expected = [*script.get("incidents", []), *script.get("moments", [])]
    missing, unexpected = _compare(expected, list(_seen(events)), script["tolerance_s"])
    assert (missing, unexpected) == ([], [])


def _seen(events: list[Event]) -> Iterator[dict[str, Any]]:
    """Events in the words of the scripts; an incident is told by its end."""
    for event in events:
        if event.phase is None:
            yield {"rule": event.rule, "at_s": event.t_ms / 1000, "direction": event.direction}
        elif event.phase == "end":
            assert event.since_ms is not None
            yield {
                "rule": event.rule,
                "from_s": event.since_ms / 1000,
                "to_s": event.t_ms / 1000,
                "reason": event.reason,
            }


def _compare(
    expected: list[dict[str, Any]], seen: list[dict[str, Any]], tolerance_s: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was expected and not seen, and what was seen and not expected."""
    missing, left = [], list(seen)
    for wanted in expected:
        match = next((found for found in left if _agree(wanted, found, tolerance_s)), None)
        if match is None:
            missing.append(wanted)
        else:
            left.remove(match)
    return missing, left


def _agree(wanted: dict[str, Any], found: dict[str, Any], tolerance_s: float) -> bool:
    wanted = {"reason": "cleared", **wanted} if "from_s" in wanted else wanted
    return wanted.keys() == found.keys() and all(
        abs(value - found[key]) <= tolerance_s if key.endswith("_s") else value == found[key]
        for key, value in wanted.items()
    )


_ANY = specs.parse(
    {
        "kind": "Task",
        "metadata": {"name": "any", "station": "s0001"},
        "spec": {
            "camera": "c",
            "fps": 1,
            "model": {"name": "yolox-nano"},
            "rules": [
                {"name": "someone", "when": {"class": ["person", "car"]}, "severity": "info"}
            ],
        },
    }
)
_REFUSED = {
    "sample_ait.ts": "no video track",
    "sample_audio_only.mp4": "no video track",
    "sample_malformed_free_box.mp4": "no video that can be read",
    "invalid-bitstream.webm": "not one of its 51 packets could be decoded",
}
_AWKWARD = (
    "8k24fps_300ms.mp4", "MOV00006.3gp", "bear-vp9-odd-dimensions.webm", "corrupted.mp4",
    "foreman-hevc-384.mp4", "hevc.h265", "invalid-bitstream.webm",
    "issue53_brightness_change.avi", "long_1080p_videoonly_lowbitrate.mp4", "photo-jpeg.mov",
    "sample.avi", "sample.flv", "sample_ait.ts", "sample_audio_only.mp4",
    "sample_empty_track.mp4", "sample_fragmented.mp4", "sample_h265.ts",
    "sample_malformed_free_box.mp4", "sample_mdat_too_long.mp4", "sample_rotate_and_reflect.mp4",
    "sample_vvc.mp4", "sample_with_invalid_nalu.mp4", "sample_without_stss.mp4",
    "sd-hls0000000000.ts", "traffic_camera_vfr.mp4", "unordered.mov", "video_90.mov",
    "xdcam-ex-1080i50.mov",
)  # fmt: skip


@pytest.mark.parametrize("name", _AWKWARD)
def test_awkward_files_are_analysed_or_refused(name: str, detector: Detector) -> None:
    """Every awkward file is replayed, or refused in one line that says why; none hangs."""
    assert isinstance(_ANY, specs.Task)
    file = asset(f"videos/awkward/{name}")
    # Twenty seconds of the 363 s are enough: they do not differ.
    events = replay(file, _ANY, detector, limit_s=20)

    if name in _REFUSED:
        with pytest.raises(SourceError, match=_REFUSED[name]):
            list(events)
    else:
        times = [event.t_ms for event in events if event.phase == "start"]
        assert times == sorted(times)
