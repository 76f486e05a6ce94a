"""Rendered forecourts full of people and vehicles, with the exact box of each object at each look.

Here: who comes, and what is visible of each. Not here: drawing (models/scenes.py), what a detector
makes of it (guesses.py), trackers and their figures (tracks.py).

Scenes with long quiet stretches are visits.py's. These are busy: cars stand, lorries pass before
them and stop there, cars follow each other, people meet and walk on. Truth comes from the same
outlines as rendered pixels do, without their colours. What was made once is kept.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from models import scenes, solids

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

WIDTH, HEIGHT = 640, 360
LENGTH_S = 20.0
FPS = 25
LANES = (20.9, 22.0, 23.1)
PLACES = (-12.0, -7.5, -3.0, 3.0, 7.5, 12.0)
PARKED_Y = 25.4
VEHICLES = ("car", "truck", "bus")


@dataclass(frozen=True, slots=True)
class Look:
    """What one picture shows: N objects."""

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    boxes: Floats
    """N × 4: x1, y1, x2, y2 in parts of the picture, of what is visible."""
    shares: Floats
    """N: how much of each object's own box is visible."""


def scene(seed: int) -> scenes.Scenario:
    """The scene of a seed: the same for everybody."""
    rng = np.random.default_rng([6, seed])
    camera = scenes.Camera.make(
        WIDTH, HEIGHT, rng.uniform(4.8, 5.8), rng.uniform(18.0, 22.0), rng.uniform(-5.0, 5.0)
    )
    layout = scenes.demo_layout(seed)
    light = scenes.make_light(rng, "day", layout.lamps)
    actors = [*_parked(rng), *_passing(rng), *_fuelling(rng), *_people(rng)]
    numbered = (
        scenes.Actor(n, each.stops, each.model, each.heading, each.idle)
        for n, each in enumerate(actors, 1)
    )
    return scenes.Scenario(layout, camera, light, tuple(numbered), LENGTH_S)


def looks(seed: int, folder: Path) -> list[Look]:
    """The truth of a seed's scene at `FPS`; drawn only if this recipe was not drawn before."""
    path = folder / f"crowd-{seed:03d}-{_recipe()}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            (n, id_, solids.LABELS.index(label), *box, share)
            for n, look in enumerate(_drawn(scene(seed)))
            for id_, label, box, share in zip(
                look.ids, look.labels, look.boxes.tolist(), look.shares.tolist(), strict=True
            )
        ]
        draft = path.with_suffix(f".{seed}.draft.npz")
        np.savez_compressed(draft, rows=np.array(rows, np.float64).reshape(-1, 8))
        draft.rename(path)
    with np.load(path) as kept:
        rows_of = kept["rows"]
    return [_look(rows_of[rows_of[:, 0] == n]) for n in range(round(LENGTH_S * FPS))]


def _look(rows: Floats) -> Look:
    return Look(
        tuple(int(n) for n in rows[:, 1]),
        tuple(solids.LABELS[int(n)] for n in rows[:, 2]),
        rows[:, 3:7],
        rows[:, 7],
    )


def _recipe() -> str:
    """A name for what draws: other code, other truth."""
    sources = [Path(file) for file in (__file__, scenes.__file__, solids.__file__)]
    return hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()[:10]


# --- what is visible ---------------------------------------------------------------------------


def _drawn(script: scenes.Scenario) -> Iterator[Look]:
    stage = scenes.Stage(script)
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float64)
    standing: dict[int, scenes.Sight] = {}
    for number in range(round(LENGTH_S * FPS)):
        placed = [each for actor in script.actors if (each := actor.at(number / FPS))]
        standing = {each.track: _sight(each, standing, script.camera) for each in placed}
        moving = [sight for sight in standing.values() if sight.in_picture()]
        truths = scenes.find_truth(_marks(stage, moving), moving)
        boxes = np.array([truth.box for truth in truths], np.float64).reshape(-1, 4)
        full = np.array([standing[each.track].box for each in truths], np.float64).reshape(-1, 4)
        shares = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) / np.maximum(
            1.0, (full[:, 2:] - full[:, :2]).prod(axis=1)
        )
        yield Look(
            tuple(truth.track for truth in truths),
            tuple(solids.LABELS[truth.label] for truth in truths),
            boxes / size,
            shares.clip(0, 1),
        )


def _sight(
    placed: solids.Placed, before: dict[int, scenes.Sight], camera: scenes.Camera
) -> scenes.Sight:
    """What the camera sees of a thing; the same as in the look before if it stands."""
    known = before.get(placed.track)
    if known is not None:
        was = known.placed
        if was.thing is placed.thing and (was.x, was.y, was.heading) == (
            placed.x,
            placed.y,
            placed.heading,
        ):
            return known
    return scenes.Sight(placed, camera)


def _marks(stage: scenes.Stage, moving: list[scenes.Sight]) -> scenes.Picture:
    """Which object each pixel shows, as `Stage.frame` has it."""
    marks = np.zeros((HEIGHT, WIDTH), np.uint8)
    near = [
        each.sight
        for each in stage.cutouts.values()
        if any(each.sight.touches(sight) for sight in moving)
    ]
    for sight in scenes.back_to_front(near + moving):
        cutout = stage.cutouts.get(id(sight))
        if cutout is None:
            _mark(marks, sight)
            continue
        rows = slice(cutout.y, cutout.y + cutout.mask.shape[0])
        columns = slice(cutout.x, cutout.x + cutout.mask.shape[1])
        marks[rows, columns][cutout.mask > 0] = 0
    return marks


def _mark(marks: scenes.Picture, sight: scenes.Sight) -> None:
    track, bits = (sight.placed.track,), scenes.SUBPIXEL_BITS
    for _, _, _, part, shape, edge in sight.parts:
        if isinstance(part, solids.Wire):
            thick = max(1, round(part.thickness * sight.camera.focal / max(1.0, sight.distance)))
            line = [scenes.fixed(shape).reshape(-1, 1, 2)]
            cv2.polylines(marks, line, False, track, thick, cv2.LINE_8, bits)
        else:
            cv2.fillConvexPoly(marks, scenes.fixed(edge), track, cv2.LINE_8, bits)


# --- who comes -----------------------------------------------------------------------------------


def _edge(y: float, length: float) -> float:
    """How far aside something at a distance is surely out of the picture."""
    return 0.72 * y + length


def _parked(rng: Rng) -> Iterator[scenes.Actor]:
    """Cars that stand; some leave, and now and then another takes the place."""
    for x in rng.permutation(PLACES)[: int(rng.integers(2, 5))].tolist():
        gone_s = float(rng.uniform(5.0, 12.0)) if rng.random() < 0.35 else LENGTH_S + 1
        stops = [(-1.0, x, PARKED_Y), (gone_s, x, PARKED_Y)]
        side = _edge(PARKED_Y, 4.0)
        if gone_s < LENGTH_S:
            stops += [(gone_s + 2.0, x + 4.0, 23.8), (gone_s + 6.0, side, 23.8)]
        yield scenes.solid_actor(0, solids.make_car(rng), stops)
        if gone_s < 8.0 and rng.random() < 0.7:
            comes_s = gone_s + rng.uniform(2.5, 4.0)
            arrives = [
                (comes_s, -side, 23.8),
                (comes_s + 4.0, x - 4.0, 23.8),
                (comes_s + 6.0, x, PARKED_Y),
                (LENGTH_S + 1, x, PARKED_Y),
            ]
            yield scenes.solid_actor(0, solids.make_car(rng), arrives)


def _passing(rng: Rng) -> Iterator[scenes.Actor]:
    """Vehicles on the lanes, one after the other; lorries may stop on their way."""
    for y in LANES:
        at_s = rng.uniform(-1.0, 5.0)
        while at_s < LENGTH_S - 2:
            large = rng.random() < 0.45
            make = (solids.make_truck, solids.make_bus)[int(rng.integers(2))]
            thing = make(rng) if large else solids.make_car(rng)
            side = float(rng.choice([-1.0, 1.0])) * _edge(y, 2 * thing.half_length)
            way_s = float(rng.uniform(4.0, 8.0) if large else rng.uniform(2.2, 6.0))
            stops = [(at_s, -side, y), (at_s + way_s, side, y)]
            if large and rng.random() < 0.5:
                stands_s, x = rng.uniform(2.0, 7.0), rng.uniform(-8.0, 8.0)
                stops = [
                    (at_s, -side, y),
                    (at_s + way_s / 2, x, y),
                    (at_s + way_s / 2 + stands_s, x, y),
                    (at_s + way_s + stands_s, side, y),
                ]
            yield scenes.solid_actor(0, thing, stops)
            at_s = stops[-1][0] + rng.uniform(0.5, 5.0)


def _fuelling(rng: Rng) -> Iterator[scenes.Actor]:
    at_s, stay_s = rng.uniform(-6.0, 6.0), rng.uniform(3.0, 12.0)
    gone_s = at_s + 4.2 + stay_s
    stops = [
        (at_s, -15.5, 14.4),
        (at_s + 2.5, -8.0, 14.4),
        (at_s + 4.2, -5.6, 14.4),
        (gone_s, -5.6, 14.4),
        (gone_s + 2.5, -2.2, 15.2),
        (gone_s + 4.5, -0.4, 18.4),
    ]
    yield scenes.solid_actor(0, solids.make_car(rng), stops)
    if rng.random() < 0.7:
        out_s = at_s + 5.0
        walk = [
            (out_s, -5.0, 13.2),
            (out_s + 1.5, -6.6, 12.9),
            (gone_s - 1.0, -6.6, 12.9),
            (gone_s, -5.0, 13.2),
        ]
        yield scenes.walker(0, solids.make_looks(rng), walk, rest="reach")


def _people(rng: Rng) -> Iterator[scenes.Actor]:
    """Some walk across, some meet, some go side by side, one works at the unloading point."""
    for _ in range(int(rng.integers(1, 4))):
        y = float(rng.uniform(9.0, 19.0))
        yield _across(rng, y, y + float(rng.normal(0.0, 1.5)), rng.uniform(-4.0, 12.0))
    for _ in range(int(rng.integers(1, 3))):
        # Two that meet: from both sides, at about the same distance.
        y, at_s = float(rng.uniform(9.0, 18.0)), rng.uniform(-2.0, 9.0)
        yield _across(rng, y, y, at_s, 1.0)
        yield _across(rng, y + 0.7, y + 0.7, at_s + rng.uniform(-1.0, 1.0), -1.0)
    if rng.random() < 0.6:
        y, at_s, side = float(rng.uniform(10.0, 18.0)), rng.uniform(-2.0, 8.0), 1.0
        yield _across(rng, y, y, at_s, side, pace=1.3)
        yield _across(rng, y + 0.8, y + 0.8, at_s + 0.3, side, pace=1.3)
    x, y, at_s = rng.uniform(2.0, 5.0), rng.uniform(9.5, 12.5), rng.uniform(-3.0, 6.0)
    stay_s = rng.uniform(4.0, 14.0)
    works = [
        (at_s, x - 1.0, 3.0), (at_s + 4.0, x, y), (at_s + 4.0 + stay_s, x, y),
        (at_s + 8.0 + stay_s, x + 0.5, 3.0),
    ]  # fmt: skip
    yield scenes.walker(0, solids.make_looks(rng, vest=True), works, rest="reach")


def _across(
    rng: Rng, y: float, to_y: float, at_s: float, side: float = 0.0, pace: float = 0.0
) -> scenes.Actor:
    side = side or float(rng.choice([-1.0, 1.0]))
    pace = pace or float(rng.uniform(1.1, 2.6))
    x = side * _edge(max(y, to_y), 0.5)
    stops = [(at_s, -x, y), (at_s + 2 * abs(x) / pace, x, to_y)]
    return scenes.walker(0, solids.make_looks(rng), stops)
