"""Number plates by the numbers: who stands, when a picture is read, what readings say together."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.vision.geometry import Box
from edge.vision.plates import (
    MAX_STANDING,
    TRIES,
    Plate,
    Reading,
    Standing,
    plate_of,
    plates_of,
    vote,
)
from edge.vision.track import Track

HERE: Box = (0.2, 0.2, 0.6, 0.6)


def car(box: Box = HERE, number: int = 1, *, seen: bool = True) -> Track:
    """A car in a look."""
    return Track(number, "car", 0.9, box, seen, 0.0, 0.0)


def asked_at(
    standing: Standing,
    tracks: Sequence[Track],
    seconds: tuple[float, float],
    answer: Sequence[Reading] | None = (),
) -> list[float]:
    """When a vehicle is to be read while it is looked at five times a second."""
    found = []
    for look in range(round(seconds[0] * 5), round(seconds[1] * 5)):
        pts_s = look / 5
        standing.left(tracks)
        standing.wanted(tracks, pts_s)
        for track in standing.due(pts_s):
            found.append(pts_s)
            if answer is None:
                standing.unread(track, pts_s)
            else:
                standing.read(track, answer, pts_s)
    return found


def test_who_stands_is_read_after_two_and_a_half_seconds_and_ever_more_seldom() -> None:
    """1.5 s of standing, the best look of 1 s, and pauses that grow; the tries are bounded."""
    tries = asked_at(Standing("any", 0.6), [car()], (0, 600))
    assert tries == [2.6, 3.6, 5.6, 9.6, 19.6, 47.6]
    assert len(tries) == TRIES


def test_who_drives_is_never_read() -> None:
    """Only a vehicle whose edges stay where they are stands; noise of its box is no motion."""
    standing = Standing("any", 0.6)
    for look in range(100):
        x = look * 0.005
        shaking = 0.02 * (look % 2)
        driving = car((x, 0.2, x + 0.1, 0.3))
        still = car((0.2 + shaking, 0.2, 0.6, 0.6 + shaking), 2)
        standing.wanted([driving, still], look / 5)
        assert set(standing.due(look / 5)) <= {2}


def test_an_unseen_vehicle_is_not_photographed() -> None:
    """Where a vehicle is only expected, something else may be in its place."""
    standing = Standing("any", 0.6)
    assert [standing.wanted([car(seen=False)], look / 5) for look in range(50)] == [[]] * 50


def test_a_picture_that_nobody_had_time_for_is_no_try() -> None:
    """It is asked for again and again, a window of looks later each time."""
    tries = asked_at(Standing("any", 0.6), [car()], (0, 20), answer=None)
    assert len(tries) > TRIES
    assert tries[1] - tries[0] == pytest.approx(1.0)


def test_two_readings_that_agree_are_a_plate() -> None:
    """Known from the second reading on, and as long as the vehicle is there."""
    standing = Standing("eu", 0.6)
    tries = asked_at(standing, [car()], (0, 20), [Reading("B-AB 1234", 0.8), Reading("SALE", 0.9)])
    assert len(tries) == 2
    assert standing.known(1) == Plate("BAB1234", 0.8)
    assert standing.known(2) is standing.known(None) is None
    assert standing.left([]) == []
    assert standing.known(1) is None


def test_who_drives_off_in_between_leaves_what_was_read() -> None:
    """One reading is told when the vehicle has gone; what is too uncertain never is."""
    for score, told in ((0.7, [Plate("BAB1234", 0.7)]), (0.5, [])):
        standing = Standing("eu", 0.6)
        asked_at(standing, [car()], (0, 3), [Reading("B AB 1234", score)])
        assert standing.known(1) is None
        assert [plate for _, plate in standing.left([])] == told


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["AB12CDE"], ("AB12CDE", 1)),
        (["AB12CDE", "AB12CDF"], None),
        (["AB12CDE", "AB12CDF", "AB12CDE"], ("AB12CDE", 2)),
        (["?A12345", "苏A12345"], ("苏A12345", 2)),
        (["苏A12345", "浙A12345", "苏A12345"], ("苏A12345", 3)),
        ([], None),
    ],
)
def test_more_than_half_of_the_readings_must_agree(
    texts: list[str], told: tuple[str, int] | None
) -> None:
    """A province that is not read, or read as another, is no disagreement."""
    voted = vote([Plate(text, 0.9) for text in texts])
    assert (None if voted is None else (voted[0].text, voted[1])) == told


def test_the_score_is_lower_where_readings_differ() -> None:
    """Two of three with 0.9 each are worth 0.6."""
    voted = vote([Plate("AB12CDE", 0.9), Plate("X1", 0.9), Plate("AB12CDE", 0.9)])
    assert voted is not None
    assert voted[0].score == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("pattern", "line", "plate"),
    [
        ("cn", "藏D·T5022", "藏DT5022"),
        ("cn", "D·T5022", "?DT5022"),
        ("cn", "满D·T5022", "?DT5022"),
        ("cn", "苏E-051712", "苏ED51712"),
        ("cn", "苏E·O517I", "苏E05171"),
        ("cn", "粤Z1234港", "粤Z1234港"),
        ("cn", "京A·1234挂", "京A1234挂"),
        ("cn", "0010912", None),
        ("cn", "社会主义", None),
        ("eu", "b-ab 1234", "BAB1234"),
        ("eu", "AB12 CDE", "AB12CDE"),
        ("eu", "ＡＢ１２ＣＤＥ", "AB12CDE"),
        ("eu", "DIESEL", None),
        ("eu", "0800123", None),
        ("eu", "AB123456789", None),
        ("any", "ABC 12", "ABC12"),
        ("any", "A_B 12", "AB12"),
        ("any", "A1", None),
    ],
)
def test_what_counts_as_a_plate(pattern: str, line: str, plate: str | None) -> None:
    """Separators fall away; words, telephone numbers and rubbish are no plates."""
    assert plate_of(line, pattern) == plate  # type: ignore[arg-type]


@given(st.text(max_size=30), st.sampled_from(["cn", "eu", "any"]))
def test_any_text_is_judged(line: str, pattern: str) -> None:
    """Whatever is read: a plate is short and plain, and a plate again."""
    plate = plate_of(line, pattern)  # type: ignore[arg-type]
    if plate is not None:
        assert 4 <= len(plate) <= 10
        assert plate_of(plate, pattern) == plate  # type: ignore[arg-type]


def test_the_best_line_comes_first() -> None:
    """What is below the least score counts for nothing."""
    lines = [Reading("AB12CDE", 0.7), Reading("XY34ZZZ", 0.95), Reading("QQ11QQQ", 0.5)]
    assert [plate.text for plate in plates_of(lines, "eu", 0.6)] == ["XY34ZZZ", "AB12CDE"]


def test_the_vehicles_are_bounded() -> None:
    """I8: those that do not fit are counted."""
    standing = Standing("any", 0.6)
    standing.wanted([car(number=number) for number in range(MAX_STANDING + 3)], 0.0)
    assert standing.shed == 3
