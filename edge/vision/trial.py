"""A network is tried before it is put to work: it must see what is known to be there.

Here: looks at an empty picture, at noise and at a known picture, and what to make of them. Not
here: when a network is tried and what becomes of one that fails (detectors, models), loading it
(detect).

Names and shapes tell too little: a network that was trained with other pixels, or was quantised
badly, loads, runs, and finds nothing or rubbish.
"""

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import av.error
import cv2
import numpy as np

from edge.clock import Clock
from edge.vision.detect import KNOWN, Detections, Detector, Image, Pixels, fitted
from edge.vision.geometry import Box
from edge.vision.manifest import ModelError
from edge.vision.track import LIKE
from wire.manifest import NO_PICTURE, PICTURE_INLINE, Sought

SURE = 0.5
"""Score of what a network is sure of."""
SEEN = 0.25
"""Least score with which a known object counts as found."""
SAME_PLACE_IOU = 0.4
MOST_ON_NOTHING = 20
"""Objects that a network may be sure of where there is nothing to see."""
MOST_ON_PICTURE = 100
MAX_PICTURE_BYTES = 4 * 1024**2
MAX_PICTURE_PIXELS = 36_000_000

PICTURE = Path(__file__).with_name("known.jpg")
"""Rendered: second 42 of the demo's scene (models/scenes.py), at half its size."""
IN_PICTURE: tuple[Sought, ...] = (
    Sought(label="person", box=(0.13, 0.617, 0.22, 0.883)),
    Sought(label="car", box=(0.493, 0.231, 0.648, 0.374)),
    Sought(label="truck", box=(0.637, 0.201, 1.0, 0.542)),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a network saw in the known picture."""

    label: str
    score: float
    box: Box
    """x1, y1, x2, y2 as fractions of the picture."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a trial."""

    ok: bool
    reason: str
    """Why it is refused and what to do; where it is not, what it was tried on."""
    found: tuple[Found, ...]
    """In the known picture, best first, scores of `SEEN` and above."""
    ms: float
    """Of one picture, conversion included, from the size of the input on."""


def try_out(
    detector: Detector, clock: Clock, picture: Image | None = None, *, looks: int = 1
) -> Trial:
    """Whether a network may be put to work. Raises ModelError if it fails on a picture.

    `picture` (BGR) stands for the one that its manifest names; then nothing must be found in it.
    More looks at the empty pictures tell the time better.
    """
    try:
        return _tried(detector, clock, picture, looks)
    except ModelError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common class
        said = str(error).partition("\n")[0][:300]
        raise ModelError(
            f"model {detector.manifest.name}: it fails on a picture, "
            f"{type(error).__name__}: {said}; take another one"
        ) from error


def _tried(detector: Detector, clock: Clock, picture: Image | None, looks: int) -> Trial:
    width, height = detector.input_size
    ms = []
    for name, empty in (("grey", _grey(width, height)), ("noise", _noise(width, height))):
        for _ in range(looks):
            began_s = clock.monotonic_s()
            [seen] = detector.detect([empty], [(width, height)])
            ms.append((clock.monotonic_s() - began_s) * 1000)
        sure = int((seen.scores >= SURE).sum())
        if sure > MOST_ON_NOTHING:
            return Trial(False, _rubbish(f"a picture of nothing but {name}", sure), (), min(ms))
    asked, sought = (picture, ()) if picture is not None else _known(detector)
    if asked is None:
        return Trial(True, "it was tried on empty pictures only", (), min(ms))
    seen = _look(detector, asked)
    found = tuple(
        Found(label, round(float(score), 3), _box(box))
        for label, score, box in zip(seen.labels, seen.scores, seen.boxes, strict=True)
        if score >= SEEN
    )
    if picture is not None:
        return Trial(True, "it was tried on the given picture", found, min(ms))
    ok, reason = _judged(detector, asked, sought, found)
    return Trial(ok, reason, found, min(ms))


def read(path: Path) -> Image:
    """A picture from a file, BGR. Raises ModelError."""
    try:
        with path.open("rb") as file:
            return _decoded(file.read(MAX_PICTURE_BYTES + 1), str(path))
    except OSError as error:
        raise ModelError(f"{path}: the known picture cannot be read: {error.strerror}") from None


def _known(detector: Detector) -> tuple[Image | None, Sequence[Sought]]:
    """The picture to look at and what must be found there; None: there is none."""
    check, folder = detector.manifest.check, detector.manifest.path.parent
    name = detector.manifest.name
    if check.picture == NO_PICTURE:
        return None, ()
    if strange := [each.label for each in check.find if each.label not in detector.labels]:
        raise ModelError(
            f"model {name}: check.find names {strange[0]!r}, which is none of its labels"
        )
    if not check.picture:
        labels = {LIKE.get(label, label) for label in detector.labels}
        sought = [each for each in IN_PICTURE if LIKE.get(each.label, each.label) in labels]
        return (read(PICTURE), sought) if sought else (None, ())
    if not check.picture.startswith(PICTURE_INLINE):
        return read(folder / check.picture), check.find
    try:
        data = base64.b64decode(check.picture.removeprefix(PICTURE_INLINE), validate=True)
    except binascii.Error as error:
        raise ModelError(f"model {name}: check.picture is no base64: {error}") from None
    return _decoded(data, f"model {name}: check.picture"), check.find


def _decoded(data: bytes, what: str) -> Image:
    """A JPEG or PNG, BGR; its size is looked at before it is decoded."""
    try:
        with av.open(io.BytesIO(data)) as container:
            track = container.streams.video[0]
            pixels = track.width * track.height
    except (av.error.FFmpegError, IndexError):
        pixels = 0
    if len(data) > MAX_PICTURE_BYTES or pixels > MAX_PICTURE_PIXELS:
        raise ModelError(
            f"{what}: the known picture is larger than {MAX_PICTURE_BYTES >> 20} MiB or "
            f"{MAX_PICTURE_PIXELS // 1_000_000} megapixels"
        )
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if pixels else None
    if picture is None:
        raise ModelError(f"{what}: the known picture is neither JPEG nor PNG")
    return picture.astype(np.uint8, copy=False)


def _judged(
    detector: Detector, picture: Image, sought: Sequence[Sought], found: Sequence[Found]
) -> tuple[bool, str]:
    """Whether what was found will do, and why."""
    sure = sum(each.score >= SURE for each in found)
    if sure > MOST_ON_PICTURE:
        return False, _rubbish("the known picture", sure)
    missing = [each for each in sought if not _is_there(each, found)]
    if not missing and (sought or found):
        return True, _told(sought, found)
    better = _better_pixels(detector, picture, missing)
    told = f"; it does if model.toml says {_as_toml(better)}" if better is not None else ""
    names = ", ".join(dict.fromkeys(each.label for each in missing)) or "anything"
    said = f"in the known picture it does not find {names}, but {_listed(found)}{told}"
    # Our own picture is rendered: of what is in it, a network for photographs may miss a part.
    if not detector.manifest.check.picture and len(missing) <= len(sought) // 2:
        return True, said
    if told:
        return False, said
    return False, (
        f"{said}: other pixels than it was trained with, a wrong layout, or a bad quantisation; "
        "correct [input] in its model.toml, or, if such things are not what it is for, say in "
        '[check] picture and find what it must see, or picture = "none" to do without'
    )


def _better_pixels(detector: Detector, picture: Image, sought: Sequence[Sought]) -> Pixels | None:
    """Other pixels with which it finds what it should, if there are."""
    usual = detector.pixels
    try:
        for other in KNOWN:
            pixels = replace(other, resize=usual.resize, pad=usual.pad)
            if pixels == usual:
                continue
            detector.see_as(pixels)
            seen = _look(detector, picture)
            found = [
                Found(label, float(score), _box(box))
                for label, score, box in zip(seen.labels, seen.scores, seen.boxes, strict=True)
                if score >= SEEN
            ]
            fine = all(_is_there(each, found) for each in sought) and (sought or found)
            if fine and len(found) <= MOST_ON_PICTURE:
                return pixels
    finally:
        detector.see_as(usual)
    return None


def _as_toml(pixels: Pixels) -> str:
    numbers = [
        f"{name} = [{', '.join(f'{value:g}' for value in values)}]"
        for name, values in (("mean", pixels.mean), ("std", pixels.std))
    ]
    return f'[input] color = "{pixels.color}", scale = {pixels.scale:.8g}, {", ".join(numbers)}'


def _is_there(sought: Sought, found: Sequence[Found]) -> bool:
    """Whether it was found: its label or one that is taken for it, about where it is."""
    like = LIKE.get(sought.label, sought.label)
    return any(
        LIKE.get(each.label, each.label) == like
        and (sought.box is None or _overlap(each.box, sought.box) >= SAME_PLACE_IOU)
        for each in found
    )


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / both if both > 0 else 0.0


def _look(detector: Detector, picture: Image) -> Detections:
    image = fitted(picture, detector.pixels, detector.input_size)
    return detector.detect([image], [(picture.shape[1], picture.shape[0])])[0]


def _box(box: Sequence[float]) -> Box:
    x1, y1, x2, y2 = (round(float(side), 4) for side in box)
    return x1, y1, x2, y2


def _told(sought: Sequence[Sought], found: Sequence[Found]) -> str:
    there = sum(_is_there(each, found) for each in sought)
    if not sought:
        return f"in the known picture it finds {_listed(found)}"
    return f"it finds {there} of {len(sought)} known objects"


def _listed(found: Sequence[Found]) -> str:
    some = ", ".join(f"{each.label} {each.score:.2f}" for each in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"{some}{more}" if some else "nothing at all"


def _rubbish(where: str, sure: int) -> str:
    return (
        f"in {where} it is sure of {sure} objects: other pixels than it was trained with, a wrong "
        "layout, or a bad quantisation; correct [input], [output] or layout in its model.toml"
    )


def _grey(width: int, height: int) -> Image:
    return np.full((height, width, 3), 114, np.uint8)


def _noise(width: int, height: int) -> Image:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
