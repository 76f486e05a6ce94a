"""Tracks: one number for one object, whatever the rate of looks."""

import json
from collections import defaultdict

import numpy as np
import pytest

from edge.vision.detect import Detections
from edge.vision.geometry import Box
from edge.vision.track import Track, Tracker
from tests.parts.clips import asset

Seen = tuple[str, float, Box]


def detections(*seen: Seen) -> Detections:
    return Detections(
        np.array([box for _, _, box in seen], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in seen], np.float32),
        tuple(label for label, _, _ in seen),
    )


def tracker(fps: float = 5.0, max_tracks: int = 500) -> Tracker:
    return Tracker(min_score=0.35, fps=fps, patience_s=2.0, max_tracks=max_tracks)


def at(x: float, y: float = 0.5, width: float = 0.1, height: float = 0.2) -> Box:
    return (x - width / 2, y - height, x + width / 2, y)


def follow(looks: list[tuple[float, list[Seen]]], fps: float = 5.0) -> list[list[Track]]:
    """The tracks after each look (time, what was seen)."""
    made = tracker(fps)
    return [made.update(detections(*seen), pts_s) for pts_s, seen in looks]


@pytest.mark.parametrize("fps", [2, 5, 10, 25])
def test_a_walker_keeps_its_number_at_every_rate(fps: int) -> None:
    """One object that moves by its width each second is one track."""
    looks = [(n / fps, [("person", 0.5, at(0.1 + 0.1 * n / fps))]) for n in range(8 * fps)]
    tracks = follow(looks, fps)
    assert {track.id for found in tracks for track in found} == {1}
    assert tracks[-1][0].box == pytest.approx(looks[-1][1][0][2], abs=1e-6)
    assert (tracks[-1][0].first_pts_s, tracks[-1][0].last_pts_s) == (0.0, looks[-1][0])


def test_a_fast_car_keeps_its_number_at_five_looks_a_second() -> None:
    """A car that moves by half its length between looks is one track."""
    looks = [(n / 5, [("car", 0.7, at(0.1 + 0.06 * n, width=0.12, height=0.1))]) for n in range(14)]
    assert {track.id for found in follow(looks) for track in found} == {1}


def test_irregular_looks_do_not_break_a_track() -> None:
    """Motion is in seconds: a late look finds the object where it has moved to."""
    times = [0.0, 0.2, 0.4, 0.5, 1.1, 1.2, 1.9, 2.0, 2.6]
    looks = [(t, [("car", 0.7, at(0.1 + 0.3 * t))]) for t in times]
    assert {track.id for found in follow(looks) for track in found} == {1}


def test_two_that_pass_each_other_keep_their_numbers() -> None:
    """Objects that meet go on as who they were."""
    looks = []
    for n in range(21):
        apart = 0.4 - 0.04 * n
        looks.append(
            (n / 10, [("person", 0.8, at(0.5 - apart)), ("person", 0.8, at(0.5 + apart, y=0.62))])
        )
    tracks = follow(looks, fps=10)
    left_first = min(tracks[0], key=lambda track: track.box[0]).id
    right_last = max(tracks[-1], key=lambda track: track.box[0]).id
    assert left_first == right_last
    assert {track.id for found in tracks for track in found} == {1, 2}


def test_one_weak_look_makes_no_track() -> None:
    """A single look needs a sure score; two looks need only the task's."""
    assert follow([(0.0, [("person", 0.5, at(0.5))])]) == [[]]
    assert len(follow([(0.0, [("person", 0.7, at(0.5))])])[0]) == 1
    looks = [(n / 5, [("person", 0.4, at(0.5))]) for n in range(2)]
    assert [len(found) for found in follow(looks)] == [0, 1]


def test_weak_detections_keep_a_track_but_begin_none() -> None:
    """Below `min_score` a detection only continues what is known."""
    scores = [0.8, 0.8, 0.2, 0.2, 0.2, 0.8]
    looks = [
        (n / 5, [("person", score, at(0.5)), ("person", 0.3, at(0.1))])
        for n, score in enumerate(scores)
    ]
    tracks = follow(looks)
    assert [[track.id for track in found] for found in tracks] == [[1]] * 6
    assert all(track.seen for found in tracks for track in found)
    assert tracks[-1][0].score == pytest.approx(0.8)


def test_an_unseen_object_is_expected_for_a_while() -> None:
    """Unseen tracks coast and keep their number until patience ends; then they are forgotten."""
    walk = [(n / 5, [("person", 0.8, at(0.2 + 0.02 * n))]) for n in range(6)]
    gap: list[tuple[float, list[Seen]]] = [(1.2 + n / 5, []) for n in range(12)]
    tracks = follow([*walk, *gap])
    coasting = [found[0] for found in tracks[6:] if found]
    assert not any(track.seen for track in coasting)
    assert {track.last_pts_s for track in coasting} == {1.0}
    assert coasting[-1].box[0] > walk[-1][1][0][2][0]
    assert len(coasting) == 10
    assert tracks[-1] == []

    back = [(1.8, [("person", 0.8, at(0.38))])]
    assert [track.id for track in follow([*walk, *gap[:3], *back])[-1]] == [1]


def test_a_lorry_that_flickers_between_names_is_one_track() -> None:
    """Car and truck match each other; the track is called what most looks say."""
    labels = ["truck", "car", "truck", "truck", "car", "truck"]
    looks = [(n / 5, [(label, 0.6, at(0.3 + 0.02 * n))]) for n, label in enumerate(labels)]
    tracks = follow(looks)
    assert {(track.id, track.label) for found in tracks[2:] for track in found} == {(1, "truck")}


def test_one_vehicle_with_two_names_counts_once() -> None:
    """Two boxes of like classes on the same spot are one object; unlike ones are two."""
    both: list[Seen] = [("car", 0.7, at(0.5)), ("truck", 0.65, at(0.505))]
    assert [track.label for track in follow([(0.0, both)])[0]] == ["car"]
    other: list[Seen] = [("car", 0.7, at(0.5)), ("person", 0.65, at(0.505))]
    assert len(follow([(0.0, other)])[0]) == 2


def test_tracks_are_bounded_and_what_is_shed_is_counted() -> None:
    """No more than `max_tracks` are followed; the surest are."""
    made = tracker(max_tracks=10)
    crowd = detections(
        *[("person", 0.5 + n / 100, at(0.02 + 0.03 * n, width=0.02)) for n in range(30)]
    )
    made.update(crowd, 0.0)
    assert len(made.update(crowd, 0.2)) == 10
    assert made.shed == 40


def test_a_long_life_leaves_nothing_behind() -> None:
    """Hundreds of objects that come and go are forgotten."""
    made = tracker()
    for n in range(400):
        made.update(detections(("person", 0.9, at(0.1 + 0.8 * (n % 2)))), n * 5.0)
    assert made.update(detections(), 3000.0) == []


@pytest.mark.parametrize(("every", "agreed"), [(1, 0.97), (2, 0.97), (6, 0.94)])
def test_association_agrees_with_bytetrack_in_a_crowd(every: int, agreed: float) -> None:
    """In a crowd of 24 nearly every step of a track is the one that ByteTrack takes.

    Its own authors' detections and tracks, at 30 looks a second, and thinned to 15 and 5.
    """
    folder = asset("eval/bytetrack_cpp_palace")
    seen = _by_frame(json.loads((folder / "detection_results.json").read_text()))
    expected = _by_frame(json.loads((folder / "tracking_results.json").read_text()))
    made = Tracker(min_score=0.5, fps=30 / every, patience_s=1.0)
    numbers: dict[str, int] = {}
    same = changed = 0
    for frame in range(0, max(seen) + 1, every):
        rows: list[Seen] = [
            ("person", float(row["prob"]), _box(row))
            for row in seen[frame]
            if float(row["prob"]) >= 0.1
        ]
        tracks = [track for track in made.update(detections(*rows), frame / 30) if track.seen]
        for row in expected[frame]:
            best = max(tracks, key=lambda track: _overlap(track.box, _box(row)))
            if _overlap(best.box, _box(row)) < 0.5:
                continue
            before = numbers.get(row["track_id"])
            same += before == best.id
            changed += before not in (None, best.id)
            numbers[row["track_id"]] = best.id
    assert same > 800
    assert same / (same + changed) >= agreed


def _by_frame(results: dict[str, list[dict[str, str]]]) -> dict[int, list[dict[str, str]]]:
    frames: dict[int, list[dict[str, str]]] = defaultdict(list)
    for row in results["results"]:
        frames[int(row["frame_id"])].append(row)
    return frames


def _box(row: dict[str, str]) -> Box:
    x, y, width, height = (float(row[key]) for key in ("x", "y", "width", "height"))
    return x / 1920, y / 1080, (x + width) / 1920, (y + height) / 1080


def _overlap(a: Box, b: Box) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(
        0.0, min(a[3], b[3]) - max(a[1], b[1])
    )
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / total
