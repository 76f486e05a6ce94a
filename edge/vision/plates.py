"""Number plates of vehicles that stand: whose is wanted when, and what its readings say; pure.

Here: standing still, tries, the grammar of plates, votes. Not here: pictures of them and events
(edge/plates.py), reading (edge/ocr.py).

    standing.left(tracks)                      # with each look: who has driven off, with what
    standing.wanted(tracks, pts_s)             # whose picture may be read; the best one is kept
    standing.due(pts_s)                        # whose best picture is to be read now
    standing.read(track, readings, pts_s)      # what it said; or `unread`
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from edge.vision.geometry import Box
from edge.vision.track import Track
from wire.specs.plates import Pattern

STILL_BY = 0.1
"""A vehicle stands whose edges stay within this part of its size."""
STILL_S = 1.5
WINDOW_S = 1.0
"""The best look of so long a time is read."""
TRIES = 6
PAUSE_FACTOR = 3.0
"""After the first try follows a second; then pauses of 1, 3, 9… s: somebody may stand in front."""
AGREED = 2
"""So many readings that agree are enough."""
MAX_STANDING = 64
"""Vehicles of a task whose plates are sought or known at once."""

_CHINA = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼使领"
_CN = re.compile(r"([^A-Z0-9])?([A-Z])([A-Z0-9]{4,5}[A-Z0-9挂学警港澳])")
_EU = re.compile(r"[A-Z0-9ÄÖÜ]{5,8}")
_ANY = re.compile(r"\w{4,10}")
UNREAD = "?"
"""Stands for a province that could not be read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A line of text that was read in one picture."""

    text: str
    score: float
    """0..1."""


@dataclass(frozen=True, slots=True)
class Plate:
    """What is known of a vehicle's plate."""

    text: str
    score: float
    """The mean of the readings that agree, times their share of all."""


@dataclass(slots=True)
class _Vehicle:
    """One whose plate is sought or known."""

    last: Track
    box: Box
    """Where it stands since `since_s`."""
    since_s: float
    window_s: float
    """When the present window of looks begins, or began."""
    asked: bool = False
    tries: int = 0
    readings: list[Plate] = field(default_factory=list)
    """The best plate of each try that found one."""
    known: Plate | None = None

    @property
    def sought(self) -> bool:
        """Whether another try is to come."""
        return self.known is None and not self.asked and self.tries < TRIES


class Standing:
    """The vehicles of one task on one stream. Bounded: `shed` counts those that did not fit."""

    def __init__(self, pattern: Pattern, min_score: float) -> None:
        self.shed = 0
        self._pattern = pattern
        self._min_score = min_score
        self._vehicles: dict[int, _Vehicle] = {}

    def left(self, tracks: Iterable[Track]) -> list[tuple[Track, Plate]]:
        """Forget all vehicles but these. Of those that have gone, what was not certain before."""
        here = {track.id for track in tracks}
        gone = [each for each in self._vehicles if each not in here]
        vehicles = [self._vehicles.pop(each) for each in gone]
        found = ((each.last, vote(each.readings)) for each in vehicles if each.known is None)
        return [(last, voted[0]) for last, voted in found if voted is not None]

    def wanted(self, tracks: Iterable[Track], pts_s: float) -> list[Track]:
        """Of the vehicles in a look those that stand, and whose picture may be read."""
        return [track for track in tracks if track.seen and self._stands(track, pts_s)]

    def _stands(self, track: Track, pts_s: float) -> bool:
        vehicle = self._vehicles.get(track.id)
        if vehicle is None:
            if len(self._vehicles) >= MAX_STANDING:
                self.shed += 1
                return False
            vehicle = _Vehicle(track, track.box, pts_s, pts_s)
            self._vehicles[track.id] = vehicle
        vehicle.last = track
        if not _stays(vehicle.box, track.box):
            vehicle.box, vehicle.since_s = track.box, pts_s
        if pts_s - vehicle.since_s < STILL_S:
            vehicle.window_s = max(vehicle.window_s, vehicle.since_s + STILL_S)
            return False
        return vehicle.sought and pts_s >= vehicle.window_s

    def due(self, pts_s: float) -> list[int]:
        """The tracks whose window of looks is over: the best picture of each is read now."""
        found = [
            track
            for track, vehicle in self._vehicles.items()
            if vehicle.sought and pts_s >= vehicle.window_s + WINDOW_S
        ]
        for track in found:
            self._vehicles[track].asked = True
        return found

    def read(self, track: int, readings: Sequence[Reading], pts_s: float) -> Plate | None:
        """Take in what a try has read; the plate, where it is certain now."""
        vehicle = self._vehicles.get(track)
        if vehicle is None:
            return None
        vehicle.asked = False
        vehicle.tries += 1
        vehicle.window_s = pts_s + (PAUSE_FACTOR ** (vehicle.tries - 2) if vehicle.tries > 1 else 0)
        plates = plates_of(readings, self._pattern, self._min_score)
        vehicle.readings += plates[:1]
        voted = vote(vehicle.readings)
        if voted is not None and (voted[1] >= AGREED or vehicle.tries >= TRIES):
            vehicle.known = voted[0]
        return vehicle.known

    def unread(self, track: int, pts_s: float) -> None:
        """Nobody had time to read it: that was no try."""
        vehicle = self._vehicles.get(track)
        if vehicle is not None:
            vehicle.asked = False
            vehicle.window_s = pts_s

    def known(self, track: int | None) -> Plate | None:
        """The plate of a vehicle that is still there, if it is certain."""
        vehicle = None if track is None else self._vehicles.get(track)
        return None if vehicle is None else vehicle.known


def plates_of(readings: Iterable[Reading], pattern: Pattern, min_score: float) -> list[Plate]:
    """The lines that can be plates, best first."""
    found = [
        Plate(text, each.score)
        for each in readings
        if each.score >= min_score and (text := plate_of(each.text, pattern)) is not None
    ]
    return sorted(found, key=lambda plate: -plate.score)


def plate_of(line: str, pattern: Pattern) -> str | None:
    """A line of text as a plate in its plain form: capitals and digits alone; None if it is none.

    `cn` follows GA 36-2018: a province, a letter, 5 characters or 6 (new energy). I and O are not
    in use there, and of 6 characters the first or the last is a letter, so that a 0 is a D. The
    province is the smallest and most often lost or mistaken: then it is `?`.
    """
    line = unicodedata.normalize("NFKC", line).upper()
    text = "".join(letter for letter in line if letter.isalnum())
    if pattern == "cn":
        found = _CN.fullmatch(text)
        if found is None:
            return None
        province, city, serial = found.groups()
        serial = serial.replace("O", "0").replace("I", "1")
        if len(serial) == 6 and serial[0] == "0" and serial[-1].isdigit():
            serial = "D" + serial[1:]
        return (province if province and province in _CHINA else UNREAD) + city + serial
    shape = _EU if pattern == "eu" else _ANY
    mixed = any(map(str.isalpha, text)) and any(map(str.isdigit, text))
    return text if mixed and shape.fullmatch(text) else None


def vote(readings: Sequence[Plate]) -> tuple[Plate, int] | None:
    """What more than half of the readings say, and how many these are; None: they disagree.

    Readings that differ only in letters of a local script (a province) agree; the best one tells.
    """
    said: dict[str, list[Plate]] = {}
    for each in readings:
        said.setdefault(plain(each.text), []).append(each)
    most = max(said.values(), key=len, default=[])
    if 2 * len(most) <= len(readings):
        return None
    best = max(most, key=lambda plate: (UNREAD not in plate.text, plate.score))
    score = sum(plate.score for plate in most) / len(readings)
    return replace(best, score=round(score, 3)), len(most)


def plain(text: str) -> str:
    """The part of a plate by which readings are compared."""
    return "".join(letter for letter in text if letter.isascii() and letter.isalnum()) or text


def _stays(where: Box, box: Box) -> bool:
    """Whether no edge of a box has moved by more than `STILL_BY` of its size."""
    most = STILL_BY * max(where[2] - where[0], where[3] - where[1])
    return all(abs(before - now) <= most for before, now in zip(where, box, strict=True))
