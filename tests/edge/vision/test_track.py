"""Tracks: one number for one object, whatever the rate of looks."""

import json
import pickle
from collections import defaultdict

import numpy as np
import pytest

from benchmarks.tracks import palace_measured
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


CAR = at(0.5, 0.6, width=0.16, height=0.12)


def parked(until_s: float, fps: float = 5.0) -> list[tuple[float, list[Seen]]]:
    """Looks at a car that stands."""
    return [(n / fps, [("car", 0.8, CAR)]) for n in range(round(until_s * fps))]


def test_a_parked_car_that_a_lorry_hides_for_a_minute_keeps_its_number() -> None:
    """It is waited for where it stood; whoever stands before it does not become it."""
    looks = parked(6.0)
    for n in range(300):
        # It comes from the left within two seconds, stands before the car, and goes on.
        x = 0.0 + 0.25 * n / 5 if n < 10 else 0.5 if n < 290 else 0.5 + 0.2 * (n - 290) / 5
        lorry: Seen = ("truck", 0.9, at(x, 0.75, width=0.4, height=0.5))
        looks.append((6.0 + n / 5, [lorry]))
    looks += [(66.0 + n / 5, [("car", 0.7, CAR)]) for n in range(5)]
    tracks = follow(looks)
    hidden = {track.id: track for track in tracks[200]}
    assert not hidden[1].seen
    assert hidden[1].resting
    assert [track.id for track in tracks[-1] if track.seen] == [1]
    assert {track.id for found in tracks for track in found} == {1, 2}


def test_a_parked_car_that_is_lost_for_half_a_minute_keeps_its_number() -> None:
    """A detector that finds nothing for 30 s does not make another car of it; 100 s do."""
    dark: list[tuple[float, list[Seen]]] = [(6.0 + n / 5, []) for n in range(150)]
    again = [(36.0 + n / 5, [("truck", 0.7, CAR)]) for n in range(3)]
    assert [track.id for track in follow([*parked(6.0), *dark, *again])[-1]] == [1]
    late = [(106.0, [("car", 0.7, CAR)])]
    dark = [(6.0 + n / 5, []) for n in range(500)]
    assert [track.id for track in follow([*parked(6.0), *dark, *late])[-1]] == [2]


def test_what_shows_itself_again_by_half_is_what_was_hidden() -> None:
    """A car that comes out from behind a lorry bit by bit is the one that stood there."""
    x1, y1, x2, y2 = CAR
    looks = parked(6.0)
    looks += [(6.0 + n / 5, []) for n in range(100)]
    for n in range(5):
        share = 0.3 + 0.175 * n
        looks.append((26.0 + n / 5, [("car", 0.7, (x2 - share * (x2 - x1), y1, x2, y2))]))
    assert {track.id for found in follow(looks) for track in found} == {1}


def test_the_next_car_at_the_same_place_is_another_one() -> None:
    """A car that was seen to leave is not waited for; who parks there next has its own number."""
    x, y = 0.5, 0.6
    looks = parked(6.0)
    for n in range(16):
        looks.append((6.0 + n / 5, [("car", 0.8, at(x + 0.03 * n, y, 0.16, 0.12))]))
    looks += [(9.2 + n / 5, []) for n in range(40)]
    for n in range(16):
        looks.append((17.2 + n / 5, [("car", 0.8, at(0.05 + 0.03 * n, y, 0.16, 0.12))]))
    looks += [(20.4 + n / 5, [("car", 0.8, CAR)]) for n in range(10)]
    assert [track.id for track in follow(looks)[-1]] == [2]


def test_who_stood_where_another_one_stands_now_is_given_up() -> None:
    """One home has one object: a car that came while the first was hidden takes its place."""
    looks = parked(6.0)
    for n in range(16):
        looks.append((6.0 + n / 5, [("car", 0.8, at(0.05 + 0.03 * n, 0.6, 0.16, 0.12))]))
    looks += [(9.2 + n / 5, [("car", 0.8, CAR)]) for n in range(40)]
    tracks = follow(looks)
    assert [track.id for track in tracks[-1]] == [2]


def test_key_frames_every_two_seconds_keep_numbers() -> None:
    """What stands or moves little between looks that are 2 s apart goes on as who it was."""
    looks: list[tuple[float, list[Seen]]] = [
        (2.0 * n, [("car", 0.8, CAR), ("person", 0.8, at(0.1 + 0.05 * n, 0.9, 0.08, 0.25))])
        for n in range(12)
    ]
    tracks = follow(looks)
    assert {track.id for found in tracks for track in found} == {1, 2}


@pytest.mark.parametrize("gap_s", [0.4, 2.0, 30.0])
def test_no_number_goes_to_an_object_far_away(gap_s: float) -> None:
    """Who appears elsewhere is somebody else, however long ago the other one was seen."""
    for name in ("person", "car"):
        looks = [(n / 5, [(name, 0.8, at(0.2))]) for n in range(25)]
        looks += [(4.8 + gap_s, [(name, 0.9, at(0.6))])]
        ids = {track.id for track in follow(looks)[-1] if track.seen}
        assert ids == {2}


def test_a_box_within_a_box_makes_no_second_person() -> None:
    """An unsure second box of the same object, smaller and within it, begins no track."""
    whole, upper = (0.40, 0.30, 0.50, 0.70), (0.41, 0.30, 0.49, 0.52)
    looks: list[tuple[float, list[Seen]]] = [
        (n / 5, [("person", 0.8, whole), ("person", 0.5, upper)]) for n in range(5)
    ]
    assert {track.id for found in follow(looks) for track in found} == {1}


def test_a_long_life_leaves_nothing_behind() -> None:
    """Hundreds of objects that come and go are forgotten."""
    made = tracker()
    for n in range(400):
        made.update(detections(("person", 0.9, at(0.1 + 0.8 * (n % 2)))), n * 5.0)
    assert made.update(detections(), 3000.0) == []


@pytest.mark.parametrize(
    "looks", [1_500, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_months_of_looks_grow_nothing(looks: int) -> None:
    """I8: with objects that come, stand, flicker and go, a tracker stays as large as it was."""
    rng = np.random.default_rng(8)
    made = tracker(max_tracks=40)
    sizes = []
    for n in range(looks):
        rows: list[Seen] = [
            (str(rng.choice(["car", "truck", "person"])), float(rng.uniform(0.1, 0.9)),
             at(0.05 + 0.06 * spot, 0.3 + 0.3 * (spot % 3), 0.05, 0.1))
            for spot in range(16)
            if (n // (50 + 7 * spot)) % 2 and rng.random() < 0.8
        ]  # fmt: skip
        rows += [("person", 0.9, at(float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.3, 1.0))))]
        assert len(made.update(detections(*rows), n / 5)) <= 40
        if n % (looks // 20) == 0:
            sizes.append(len(pickle.dumps(made)))
    assert max(sizes[10:]) <= 1.2 * max(sizes[2:10])


def test_the_same_detections_give_the_same_tracks() -> None:
    """Nothing depends on chance, nor on the order in which equal objects are kept."""
    rng = np.random.default_rng(9)
    looks = [
        (n / 5, [("person", float(rng.uniform(0.2, 0.9)), at(float(x), 0.5 + 0.1 * (k % 4)))
                 for k, x in enumerate(rng.uniform(0.1, 0.9, 12))])
        for n in range(60)
    ]  # fmt: skip
    assert follow(looks) == follow(looks)


def test_tracks_of_a_crowd_are_those_of_bytetrack() -> None:
    """At 30 looks a second ours are its authors' own to nine tenths, scored as identities are."""
    figures = palace_measured(asset("eval/bytetrack_cpp_palace").parents[1], (1,))
    assert figures["palace_idf1"] >= 0.90


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
