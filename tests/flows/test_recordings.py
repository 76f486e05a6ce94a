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
