"""What a camera's spec may say of its health."""

import json
from typing import Any

import pytest

from wire import specs


def camera(health: Any) -> specs.Camera:
    parsed = specs.parse(
        {
            "kind": "Camera",
            "metadata": {"name": "bay-2", "station": "s0042"},
            "spec": {"streams": {"main": {"url": "rtsp://10.0.0.9/main"}}, "health": health},
        }
    )
    assert isinstance(parsed, specs.Camera)
    return parsed


@pytest.mark.parametrize("off", ["off", False, None])
def test_off_says_nothing_and_the_rest_keeps_its_defaults(off: object) -> None:
    """YAML reads a bare `off` as false; both mean the same."""
    watched = camera({"frozen": off}).spec.health.watched()
    assert sorted(watched) == ["black", "blurred", "covered", "moved", "over-exposed"]
    assert {fault.after for fault in watched.values()} == {2.0}


def test_what_is_said_survives_being_written_and_read() -> None:
    """Also what is off; and no health at all changes no document."""
    said = camera({"over-exposed": "off", "moved": {"after": "5s", "severity": "critical"}})
    assert specs.parse(json.loads(specs.canonical(said))) == said
    assert b"health" not in specs.canonical(camera({}))


def test_nothing_is_watched_for_where_all_is_off() -> None:
    """It is what a replay does without health."""
    assert specs.UNWATCHED.watched() == {}


@pytest.mark.parametrize(
    ("health", "problem"),
    [
        ({"lost": "off"}, "spec.health.lost: a lost camera is always told"),
        ({"lost": {"after": 0}}, "spec.health.lost.after: "),
        ({"frozen": {"after": "1s"}}, "spec.health.frozen.after: "),
        ({"frozen": {"share": 0.5}}, "spec.health.frozen.share: unknown key"),
        ({"over-exposed": {"share": 1.5}}, "spec.health.over-exposed.share: "),
        ({"black": {"severity": "grave"}}, "spec.health.black.severity: "),
        ({"moved": {"after": "soon"}}, "spec.health.moved.after: "),
        ({"fogged": {}}, "spec.health.fogged: unknown key"),
    ],
)
def test_a_mistake_is_named_by_its_path(health: dict[str, Any], problem: str) -> None:
    """An operator finds what to correct."""
    with pytest.raises(specs.SpecError) as caught:
        camera(health)
    assert any(str(each).startswith(problem) for each in caught.value.problems)
