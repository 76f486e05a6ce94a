"""Solid models of what is seen on forecourts, each in its own frame.

Belongs here: what vehicles, people and street furniture look like from all sides. Does not belong
here: where they stand, how a camera sees them, light and weather (all in scenes.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]

LABELS = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
PERSON, BICYCLE, CAR, MOTORCYCLE, BUS, TRUCK = range(6)
STATIC = -1


@dataclass(frozen=True)
class Solid:
    """A convex body: faces in drawing order, what is painted on it last."""

    vertices: Floats
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    normals: Floats
    colours: Floats
    bright: NDArray[np.bool_]  # faces that shine by themselves in the dark
    rank: int


@dataclass(frozen=True)
class Blob:
    """The hull of a few balls: limbs, bodies, crowns of trees."""

    centres: Floats
    radii: Floats
    colour: Colour
    rank: int = 0


@dataclass(frozen=True)
class Wire:
    """A thin line through space: spokes, frames, hoses."""

    points: Floats
    thickness: float
    colour: Colour
    rank: int = 0


@dataclass(frozen=True)
class Lamp:
    """A lamp of a vehicle, seen from the side to which it points."""

    position: tuple[float, float, float]
    ahead: float  # +1 shines forwards, -1 backwards
    colour: Colour
    strength: float


@dataclass(frozen=True)
class Thing:
    """A model in its own frame: x to its right, y ahead, z up, origin on the ground."""

    label: int
    half_width: float
    half_length: float
    tall: float
    solids: tuple[Solid, ...] = ()
    blobs: tuple[Blob, ...] = ()
    wires: tuple[Wire, ...] = ()
    lamps: tuple[Lamp, ...] = ()
    along: bool = False  # its solids follow each other along y


@dataclass(frozen=True)
class Placed:
    """A thing somewhere in the world."""

    thing: Thing
    x: float
    y: float
    heading: float
    track: int = 0

    def matrix(self) -> Floats:
        """Rotation from the thing's frame to the world's."""
        s, c = math.sin(self.heading), math.cos(self.heading)
        return np.array([[s, c, 0.0], [-c, s, 0.0], [0.0, 0.0, 1.0]])

    def corners(self, margin: float = 0.0) -> Floats:
        """Footprint on the ground, counter-clockwise."""
        w, h = self.thing.half_width + margin, self.thing.half_length + margin
        local = np.array([(-w, -h, 0.0), (w, -h, 0.0), (w, h, 0.0), (-w, h, 0.0)])
        return (local @ self.matrix().T)[:, :2] + (self.x, self.y)


class Shape:
    """Collects the faces of one convex solid and turns them outwards."""

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank
        self.faces: list[Floats] = []
        self.colours: list[Colour] = []
        self.bright: list[bool] = []
        self.body = 0

    def face(self, points: Any, colour: Colour, bright: bool = False) -> Floats:
        """Adds a face; gives its points back so that something can be painted on it."""
        made = np.asarray(points, dtype=np.float64)
        self.faces.append(made)
        self.colours.append(colour)
        self.bright.append(bright)
        return made

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        colour: Colour,
    ) -> dict[str, Floats]:
        """Adds the five visible sides of a box, each from its lower left corner."""
        (x0, x1), (y0, y1), (z0, z1) = x, y, z
        sides = {
            "left": [(x0, y0, z0), (x0, y1, z0), (x0, y1, z1), (x0, y0, z1)],
            "right": [(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)],
            "back": [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)],
            "front": [(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)],
            "top": [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)],
        }
        return {name: self.face(points, colour) for name, points in sides.items()}

    def loft(
        self, profile: Sequence[tuple[float, float, float]], colour: Colour
    ) -> tuple[Floats, Floats, list[Floats]]:
        """A side view (y, z, half width) drawn out to both sides: left, right, the strips."""
        left = self.face([(-w, y, z) for y, z, w in profile], colour)
        right = self.face([(w, y, z) for y, z, w in profile], colour)
        strips = []
        for (y0, z0, w0), (y1, z1, w1) in pairwise(profile):
            quad = [(-w0, y0, z0), (w0, y0, z0), (w1, y1, z1), (-w1, y1, z1)]
            strips.append(self.face(quad, colour))
        return left, right, strips

    def build(self) -> Solid:
        """The finished solid."""
        vertices = np.concatenate(self.faces)
        sizes = np.array([len(f) for f in self.faces], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2.0
        normals = np.zeros((len(self.faces), 3))
        for i, points in enumerate(self.faces):
            normal = np.cross(points[1] - points[0], points[2] - points[0])
            length = float(np.linalg.norm(normal))
            normal = normal / (length if length > 1e-9 else 1.0)
            if float(normal @ (points.mean(axis=0) - middle)) < 0.0:
                normal = -normal
            normals[i] = normal
        return Solid(
            vertices,
            starts,
            sizes,
            normals,
            np.array(self.colours, dtype=np.float64),
            np.array(self.bright, dtype=np.bool_),
            self.rank,
        )


def on_quad(quad: Floats, u: tuple[float, float], v: tuple[float, float]) -> Floats:
    """A rectangle (u, v in 0..1) on a quad whose corners run around it."""
    out = []
    for a, b in ((u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1])):
        low = quad[0] + a * (quad[1] - quad[0])
        high = quad[3] + a * (quad[2] - quad[3])
        out.append(low + b * (high - low))
    return np.array(out)


def disc(x: float, y: float, z: float, radius: float, count: int = 14) -> Floats:
    """A wheel's outline in the plane of constant x."""
    turn = np.linspace(0.0, 2.0 * math.pi, count, endpoint=False)
    return np.stack(
        [np.full(count, x), y + radius * np.cos(turn), z + radius * np.sin(turn)], axis=1
    )


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """A colour between two others."""
    return (
        a[0] + share * (b[0] - a[0]),
        a[1] + share * (b[1] - a[1]),
        a[2] + share * (b[2] - a[2]),
    )


def any_colour(rng: np.random.Generator, low: float = 20.0, high: float = 235.0) -> Colour:
    """A colour of any kind."""
    b, g, r = rng.uniform(low, high, 3)
    return (float(b), float(g), float(r))


def paint_of_car(rng: np.random.Generator) -> Colour:
    """Most cars are white, grey or black; the rest are coloured."""
    kind = rng.random()
    if kind < 0.25:
        grey = rng.uniform(205.0, 245.0)
        return (grey, grey, grey)
    if kind < 0.45:
        grey = rng.uniform(18.0, 50.0)
        return (grey * 1.05, grey, grey)
    if kind < 0.65:
        grey = rng.uniform(80.0, 180.0)
        return (grey * rng.uniform(1.0, 1.08), grey, grey)
    hue = rng.choice([0, 4, 8, 14, 22, 60, 100, 108, 115, 175])
    hsv = np.array([[[hue, rng.integers(120, 245), rng.integers(60, 220)]]], dtype=np.uint8)
    b, g, r = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(float)
    return (float(b), float(g), float(r))


def add_wheels(
    shape: Shape, wheels: Sequence[float], half_width: float, radius: float, rim: Colour
) -> tuple[Solid, ...]:
    """Wheel discs painted on the sides of a body, and the treads that show from the ends."""
    treads = []
    for y in wheels:
        for side in (-1.0, 1.0):
            x = side * (half_width + 0.01)
            shape.face(disc(x, y, radius, radius), (24.0, 24.0, 26.0))
            shape.face(disc(x * 1.002, y, radius, radius * 0.58, 10), rim)
            tread = Shape(rank=-1)
            inner, outer = sorted((x, side * (half_width - 0.22)))
            tread.box(
                (inner, outer),
                (y - radius * 0.75, y + radius * 0.75),
                (0.0, radius * 1.2),
                (
                    22.0,
                    22.0,
                    24.0,
                ),
            )
            treads.append(tread.build())
    return tuple(treads)


GLASS: Colour = (62.0, 52.0, 44.0)
TYRE_RIMS: tuple[Colour, ...] = ((150.0, 150.0, 150.0), (90.0, 90.0, 92.0), (190.0, 190.0, 190.0))


def glass(rng: np.random.Generator) -> Colour:
    """Window glass: dark, or bright with the sky in it."""
    return mixed(GLASS, (190.0, 170.0, 150.0), float(rng.beta(1.2, 3.0)))


def make_car(rng: np.random.Generator, style: str | None = None) -> Thing:
    """A hatchback, saloon, SUV, van or pick-up."""
    style = style or str(
        rng.choice(["hatch", "sedan", "suv", "van", "pickup"], p=[0.3, 0.3, 0.22, 0.1, 0.08])
    )
    grow = rng.uniform(0.94, 1.06)
    # length, width, height, belt line, bonnet; the cabin's four corners in half lengths
    length, width, tall, belt, bonnet, cabin = {
        "hatch": (3.9, 1.74, 1.48, 0.92, 0.84, (-0.97, -0.82, 0.12, 0.42)),
        "sedan": (4.6, 1.8, 1.45, 0.92, 0.82, (-0.68, -0.42, 0.1, 0.4)),
        "suv": (4.5, 1.88, 1.72, 1.06, 1.0, (-0.98, -0.88, 0.18, 0.42)),
        "van": (4.9, 1.95, 2.0, 1.15, 1.05, (-0.99, -0.96, 0.45, 0.7)),
        "pickup": (5.2, 1.9, 1.78, 1.1, 1.05, (-0.18, -0.1, 0.25, 0.42)),
    }[style]
    length, width, tall = length * grow, width * grow, tall * rng.uniform(0.96, 1.05)
    hl, hw = length / 2.0, width / 2.0
    colour = paint_of_car(rng)
    trim = mixed(colour, (35.0, 35.0, 35.0), rng.uniform(0.3, 0.9))
    pane = glass(rng)
    body = Shape(rank=0)
    left, right, strips = body.loft(
        [
            (-hl * 0.97, 0.2, hw * 0.95),
            (-hl, 0.5, hw * 0.98),
            (-hl * 0.98, belt, hw * 0.95),
            (hl * 0.35, belt, hw * 0.97),
            (hl * 0.93, bonnet * 0.92, hw * 0.92),
            (hl, 0.48, hw * 0.93),
            (hl * 0.97, 0.2, hw * 0.93),
        ],
        colour,
    )
    for side in (-1.0, 1.0):
        x = side * (hw + 0.004)
        body.face(
            [
                (x, -hl * 0.95, 0.2),
                (x, hl * 0.95, 0.2),
                (x, hl * 0.95, 0.34),
                (x, -hl * 0.95, 0.34),
            ],
            trim,
        )
    rear, front = strips[1], strips[4]
    body.face(on_quad(strips[0], (0.02, 0.98), (0.0, 0.9)), trim)
    body.face(on_quad(strips[5], (0.02, 0.98), (0.1, 1.0)), trim)
    body.face(on_quad(front, (0.3, 0.7), (0.15, 0.75)), (28.0, 28.0, 30.0))
    for u in ((0.02, 0.24), (0.76, 0.98)):
        body.face(on_quad(front, u, (0.1, 0.6)), (235.0, 240.0, 240.0), True)
        body.face(on_quad(rear, u, (0.35, 0.85)), (30.0, 25.0, 190.0), True)
    body.face(on_quad(rear, (0.38, 0.62), (0.2, 0.5)), (220.0, 225.0, 225.0))
    body.face(on_quad(strips[5], (0.38, 0.62), (0.15, 0.55)), (220.0, 225.0, 225.0))
    if style == "pickup":
        bed = np.array(
            [
                (-hw * 0.85, -hl * 0.93, belt + 0.01),
                (hw * 0.85, -hl * 0.93, belt + 0.01),
                (hw * 0.85, -hl * 0.2, belt + 0.01),
                (-hw * 0.85, -hl * 0.2, belt + 0.01),
            ]
        )
        body.face(bed, (40.0, 40.0, 42.0))
    radius = 0.31 if style in ("hatch", "sedan") else 0.36
    rim = TYRE_RIMS[int(rng.integers(len(TYRE_RIMS)))]
    treads = add_wheels(body, (-hl * 0.6, hl * 0.62), hw, radius, rim)
    house = Shape(rank=1)
    y0, y1, y2, y3 = (c * hl for c in cabin)
    low, high = hw * 0.95, hw * (0.9 if style == "van" else 0.74)
    roof = colour if rng.random() < 0.85 else (30.0, 30.0, 30.0)
    left, right, strips = house.loft(
        [(y0, belt, low), (y1, tall, high), (y2, tall, high), (y3, belt, low)], colour
    )
    house.face(on_quad(strips[1], (0.0, 1.0), (0.0, 1.0)), roof)
    house.face(on_quad(strips[0], (0.08, 0.92), (0.12, 0.88)), pane)
    house.face(on_quad(strips[2], (0.06, 0.94), (0.08, 0.95)), pane)
    for flank in (left, right):
        quad = flank[[0, 3, 2, 1]]
        panes = ((0.56, 0.94),) if style == "van" else ((0.07, 0.46), (0.52, 0.94))
        for u in panes:
            made = on_quad(quad, u, (0.14, 0.86))
            made[:, 0] *= 1.008
            house.face(made, pane)
    lamps = tuple(
        [Lamp((s * hw * 0.8, hl, 0.66), 1.0, (225.0, 240.0, 255.0), 1.0) for s in (-1.0, 1.0)]
        + [Lamp((s * hw * 0.8, -hl, 0.8), -1.0, (40.0, 40.0, 255.0), 0.45) for s in (-1.0, 1.0)]
    )
    return Thing(CAR, hw, hl, tall, (*treads, body.build(), house.build()), lamps=lamps)


def make_truck(rng: np.random.Generator, style: str | None = None) -> Thing:
    """A lorry with a box, a flat bed, a tipper or a tank."""
    style = style or str(rng.choice(["tanker", "box", "flat", "tipper"], p=[0.4, 0.38, 0.1, 0.12]))
    length = rng.uniform(6.0, 10.5) if style != "tanker" else rng.uniform(8.0, 10.5)
    hl, hw = length / 2.0, rng.uniform(1.15, 1.27)
    cab_tall, cab_long = rng.uniform(2.5, 3.1), rng.uniform(1.7, 2.2)
    colour, load = paint_of_car(rng), any_colour(rng)
    if rng.random() < 0.6:
        grey = rng.uniform(170.0, 240.0)
        load = (grey, grey, grey * rng.uniform(0.95, 1.0))
    pane = glass(rng)
    frame = Shape(rank=0)
    frame.box((-hw * 0.9, hw * 0.9), (-hl, hl - 0.1), (0.5, 1.05), (38.0, 38.0, 40.0))
    for x in (-0.85 * hw, 0.55 * hw):
        frame.face(
            [
                (x, -hl - 0.01, 0.7),
                (x + 0.3, -hl - 0.01, 0.7),
                (x + 0.3, -hl - 0.01, 0.9),
                (x, -hl - 0.01, 0.9),
            ],
            (30.0, 25.0, 190.0),
            True,
        )
    axles = [hl - 1.0, -hl + 1.2, -hl + 2.4] if length > 7.5 else [hl - 1.0, -hl + 1.3]
    rim = TYRE_RIMS[int(rng.integers(len(TYRE_RIMS)))]
    treads = add_wheels(frame, axles, hw * 0.97, 0.5, rim)
    cab = Shape(rank=1)
    back = hl - cab_long
    _, _, strips = cab.loft(
        [
            (back, 0.55, hw),
            (back, cab_tall, hw * 0.97),
            (hl - 0.25, cab_tall, hw * 0.95),
            (hl, 1.45, hw),
            (hl, 0.45, hw),
        ],
        colour,
    )
    screen, nose = strips[2], strips[3]
    cab.face(on_quad(screen, (0.06, 0.94), (0.18, 0.92)), pane)
    cab.face(on_quad(nose, (0.25, 0.75), (0.1, 0.5)), mixed(colour, (30.0, 30.0, 30.0), 0.7))
    cab.face(on_quad(nose, (0.0, 1.0), (0.72, 1.0)), (60.0, 60.0, 62.0))
    for u in ((0.03, 0.2), (0.8, 0.97)):
        cab.face(on_quad(nose, u, (0.55, 0.72)), (235.0, 240.0, 240.0), True)
    for side in (-1.0, 1.0):
        x = side * hw * 1.006
        cab.face(
            [
                (x, back + 0.45, 1.55),
                (x, hl - 0.1, 1.55),
                (x, hl - 0.3, cab_tall - 0.3),
                (x, back + 0.45, cab_tall - 0.3),
            ],
            pane,
        )
    # the cab's front wheels are painted again, because the cab covers those of the frame
    add_wheels(cab, axles[:1], hw, 0.5, rim)
    cargo = Shape(rank=1)
    end, start = -hl, back - 0.15
    if style == "tanker":
        turn = np.linspace(0.0, 2.0 * math.pi, 16, endpoint=False)
        middle, half = 2.05, 0.98
        xs, zs = hw * 0.98 * np.cos(turn), middle + half * np.sin(turn)
        stripe = any_colour(rng)
        band = set(map(int, rng.choice(16, 2, replace=False)))
        for i in range(16):
            j = (i + 1) % 16
            tone = stripe if i in band or (i + 8) % 16 in band else load
            cargo.face(
                [
                    (xs[i], end, zs[i]),
                    (xs[j], end, zs[j]),
                    (xs[j], start, zs[j]),
                    (xs[i], start, zs[i]),
                ],
                tone,
            )
        for y in (end, start):
            cargo.face(np.stack([xs, np.full(16, y), zs], axis=1), mixed(load, (90.0,) * 3, 0.2))
        plate = [
            (-0.3, end - 0.02, 1.8),
            (0.3, end - 0.02, 1.8),
            (0.3, end - 0.02, 2.2),
            (-0.3, end - 0.02, 2.2),
        ]
        cargo.face(plate, (20.0, 120.0, 240.0))
        tall = middle + half
    else:
        tall = {"box": rng.uniform(2.9, 3.7), "flat": 1.3, "tipper": rng.uniform(1.9, 2.4)}[style]
        sides = cargo.box((-hw, hw), (end, start), (1.0, tall), load)
        tone = any_colour(rng)
        if style == "box":
            for name in ("left", "right"):
                if rng.random() < 0.6:
                    u0, v0 = rng.uniform(0.05, 0.4), rng.uniform(0.1, 0.4)
                    cargo.face(
                        on_quad(
                            sides[name],
                            (u0, u0 + rng.uniform(0.2, 0.5)),
                            (v0, v0 + rng.uniform(0.15, 0.5)),
                        ),
                        tone,
                    )
            for u in ((0.04, 0.49), (0.51, 0.96)):
                cargo.face(on_quad(sides["back"], u, (0.04, 0.96)), mixed(load, (60.0,) * 3, 0.15))
        else:
            cargo.face(
                on_quad(sides["top"], (0.06, 0.94), (0.03, 0.97)),
                mixed(load, any_colour(rng, 30, 120), 0.8),
            )
    lamps = tuple(
        [Lamp((s * hw * 0.8, hl, 0.9), 1.0, (225.0, 240.0, 255.0), 1.2) for s in (-1.0, 1.0)]
        + [Lamp((s * hw * 0.7, -hl, 0.8), -1.0, (40.0, 40.0, 255.0), 0.5) for s in (-1.0, 1.0)]
    )
    solids = (*treads, frame.build(), cab.build(), cargo.build())
    return Thing(TRUCK, hw, hl, max(tall, cab_tall), solids, lamps=lamps, along=True)


def make_bus(rng: np.random.Generator) -> Thing:
    """A city or tour bus."""
    hl, hw, tall = rng.uniform(4.6, 6.0), rng.uniform(1.2, 1.28), rng.uniform(2.8, 3.3)
    colour, stripe, pane = any_colour(rng, 40.0), any_colour(rng), glass(rng)
    body = Shape(rank=0)
    left, right, strips = body.loft(
        [(-hl, 0.35, hw), (-hl, tall, hw * 0.97), (hl - 0.15, tall, hw * 0.97), (hl, 0.35, hw)],
        colour,
    )
    count = int(rng.integers(5, 9))
    low, high = rng.uniform(0.38, 0.48), rng.uniform(0.82, 0.9)
    for side in (left, right):
        quad = side[[0, 3, 2, 1]]
        if rng.random() < 0.7:
            body.face(on_quad(quad, (0.0, 1.0), (0.1, 0.25)) * (1.003, 1.0, 1.0), stripe)
        for i in range(count):
            u = (0.03 + i * 0.95 / count, 0.03 + (i + 0.9) * 0.95 / count)
            door = i == count - 1
            body.face(on_quad(quad, u, (0.06 if door else low, high)) * (1.005, 1.0, 1.0), pane)
    rear, roof, front = strips
    body.face(on_quad(roof, (0.3, 0.7), (0.2, 0.45)), mixed(colour, (200.0,) * 3, 0.5))
    body.face(on_quad(front, (0.05, 0.95), (0.12, 0.62)), pane)
    body.face(on_quad(front, (0.2, 0.8), (0.02, 0.1)), (30.0, 140.0, 200.0), True)
    body.face(on_quad(rear, (0.15, 0.85), (0.5, 0.88)), pane)
    for u in ((0.04, 0.2), (0.8, 0.96)):
        body.face(on_quad(front, u, (0.8, 0.9)), (235.0, 240.0, 240.0), True)
        body.face(on_quad(rear, u, (0.2, 0.36)), (30.0, 25.0, 190.0), True)
    rim = TYRE_RIMS[int(rng.integers(len(TYRE_RIMS)))]
    treads = add_wheels(body, (-hl * 0.55, hl * 0.6), hw, 0.5, rim)
    lamps = tuple(
        [Lamp((s * hw * 0.8, hl, 0.8), 1.0, (225.0, 240.0, 255.0), 1.2) for s in (-1.0, 1.0)]
        + [Lamp((s * hw * 0.8, -hl, 1.0), -1.0, (40.0, 40.0, 255.0), 0.5) for s in (-1.0, 1.0)]
    )
    return Thing(BUS, hw, hl, tall, (*treads, body.build()), lamps=lamps)


@dataclass(frozen=True)
class Looks:
    """How a person is built and dressed."""

    tall: float
    wide: float
    shirt: Colour
    trousers: Colour
    shoes: Colour
    skin: Colour
    hair: Colour
    vest: bool
    skirt: bool
    cap: bool


SKINS: tuple[Colour, ...] = (
    (170.0, 195.0, 230.0),
    (140.0, 170.0, 215.0),
    (105.0, 140.0, 190.0),
    (70.0, 100.0, 145.0),
    (45.0, 62.0, 95.0),
)


def make_looks(rng: np.random.Generator, vest: bool | None = None) -> Looks:
    """A person of any kind; every fourth wears hi-vis, as on forecourts."""
    wears = bool(rng.random() < 0.25) if vest is None else vest
    shirt = any_colour(rng)
    if wears:
        shirt = (20.0, 235.0, 225.0) if rng.random() < 0.6 else (20.0, 110.0, 245.0)
    dark = any_colour(rng, 15.0, 90.0) if rng.random() < 0.75 else any_colour(rng)
    return Looks(
        tall=float(rng.uniform(1.52, 1.92)),
        wide=float(rng.uniform(0.88, 1.22)),
        shirt=shirt,
        trousers=dark,
        shoes=any_colour(rng, 15.0, 120.0),
        skin=SKINS[int(rng.integers(len(SKINS)))],
        hair=any_colour(rng, 10.0, 80.0),
        vest=wears,
        skirt=bool(rng.random() < 0.1),
        cap=bool(rng.random() < 0.2),
    )


def make_person(looks: Looks, phase: float, gait: str, label: int = PERSON) -> Thing:
    """A person: gait is walk, stand, reach (an arm ahead), ride or cycle."""
    h, w = looks.tall, looks.wide
    seated = gait in ("ride", "cycle")
    lift = {"ride": 0.28, "cycle": 0.42}.get(gait, 0.0)
    hip = 0.52 * h if not seated else 0.52 + lift
    lean = {"ride": 0.22, "cycle": 0.3, "walk": 0.04}.get(gait, 0.0)
    chest = hip + 0.29 * h * math.cos(lean * 1.4)
    ahead = lean * 1.3 if seated else lean
    swing = 0.5 * math.sin(phase) if gait == "walk" else 0.0
    blobs: list[Blob] = []

    def limb(
        points: Sequence[tuple[float, float, float]], radii: Sequence[float], colour: Colour
    ) -> None:
        blobs.append(Blob(np.array(points), np.array(radii), colour))

    thigh, shin = 0.25 * h, 0.25 * h
    for side, turn in ((-1.0, swing), (1.0, -swing)):
        x = side * 0.055 * h * w
        if seated:
            push = 0.35 * math.sin(phase + side * 1.57) if gait == "cycle" else 0.0
            knee = (x * 1.5, 0.36, hip - 0.12 + 0.25 * push)
            foot = (x * 1.5, 0.18 if gait == "cycle" else 0.1, max(0.18, hip - 0.52 + 0.3 * push))
        else:
            bend = 0.45 * max(0.0, math.cos(phase) * side) if gait == "walk" else 0.03
            knee = (x, thigh * math.sin(turn), hip - thigh * math.cos(turn))
            foot = (
                x,
                knee[1] + shin * math.sin(turn - bend),
                max(0.05, knee[2] - shin * math.cos(turn - bend)),
            )
        if looks.skirt and not seated:
            limb([(x, 0.0, hip), knee], [0.075 * h * w, 0.07 * h], looks.trousers)
            limb([knee, foot], [0.036 * h, 0.026 * h], looks.skin)
        else:
            limb([(x, 0.0, hip), knee], [0.058 * h * w, 0.042 * h * w], looks.trousers)
            limb([knee, foot], [0.042 * h * w, 0.03 * h], looks.trousers)
        toe = (foot[0], foot[1] + 0.14, max(0.035, foot[2] - 0.03))
        limb(
            [(foot[0], foot[1] - 0.02, max(0.04, foot[2] - 0.02)), toe], [0.045, 0.035], looks.shoes
        )
    sx = 0.105 * h * w
    limb(
        [
            (-sx * 0.62, 0.0, hip),
            (sx * 0.62, 0.0, hip),
            (-sx * 0.8, ahead, chest),
            (sx * 0.8, ahead, chest),
        ],
        [0.065 * h, 0.065 * h, 0.058 * h, 0.058 * h],
        looks.shirt,
    )
    if looks.vest:
        mid = (hip + chest) / 2.0
        limb(
            [(-sx * 0.75, ahead / 2, mid), (sx * 0.75, ahead / 2, mid)],
            [0.066, 0.066],
            (215.0, 225.0, 225.0),
        )
    for side, turn in ((-1.0, -swing), (1.0, swing)):
        shoulder = (side * sx, ahead, chest)
        if seated or (gait == "reach" and side > 0):
            elbow = (side * sx * 1.25, ahead + 0.16, chest - 0.2)
            hand = (side * sx, ahead + 0.42, chest - 0.26)
        else:
            elbow = (
                side * sx * 1.2,
                ahead + 0.17 * h * math.sin(turn * 0.8),
                chest - 0.17 * h * math.cos(turn * 0.8),
            )
            hand = (
                side * sx * 1.2,
                elbow[1] + 0.15 * h * math.sin(turn * 0.8 + 0.25),
                elbow[2] - 0.15 * h * math.cos(turn * 0.8 + 0.25),
            )
        limb([shoulder, elbow], [0.038 * h, 0.03 * h], looks.shirt)
        limb([elbow, hand], [0.028 * h, 0.024 * h], looks.skin if not looks.vest else looks.shirt)
    top = chest + 0.125 * h
    limb(
        [(0.0, ahead + 0.01, chest + 0.04), (0.0, ahead + 0.02, top - 0.05)],
        [0.035 * h] * 2,
        looks.skin,
    )
    if gait == "ride" or (looks.cap and gait == "cycle"):
        limb([(0.0, ahead + 0.04, top)], [0.078 * h], looks.hair)
    else:
        limb(
            [(0.0, ahead + 0.03, top), (0.0, ahead + 0.03, top + 0.03)],
            [0.055 * h, 0.055 * h],
            looks.skin,
        )
        hat = looks.shirt if looks.cap else looks.hair
        limb(
            [(0.0, ahead - 0.005, top + 0.025), (0.0, ahead + 0.01, top + 0.045)],
            [0.055 * h, 0.052 * h],
            hat,
        )
    return Thing(label, 0.28, 0.32, h + lift, blobs=tuple(blobs))


def make_two_wheeler(rng: np.random.Generator, label: int) -> Thing:
    """A bicycle or motorcycle without its rider, who is a person of his own."""
    colour = paint_of_car(rng)
    if label == BICYCLE:
        r, base = 0.34, 0.52
        wires = [
            Wire(
                np.concatenate([disc(0.0, y, r, r, 18), disc(0.0, y, r, r, 18)[:1]]),
                0.045,
                (25.0, 25.0, 27.0),
            )
            for y in (-base, base)
        ]
        crank, seat, head = (0.0, -0.05, 0.3), (0.0, -0.2, 0.85), (0.0, 0.38, 0.85)
        for a, b in (
            (crank, seat),
            (crank, head),
            (seat, head),
            (seat, (0.0, -base, r)),
            (crank, (0.0, -base, r)),
            (head, (0.0, base, r)),
            (head, (0.0, 0.42, 1.02)),
            (seat, (0.0, -0.22, 0.95)),
        ):
            wires.append(Wire(np.array([a, b]), 0.045, colour))
        wires.append(Wire(np.array([(-0.28, 0.36, 1.02), (0.28, 0.36, 1.02)]), 0.04, (30.0,) * 3))
        saddle = Blob(
            np.array([(0.0, -0.34, 0.97), (0.0, -0.12, 0.97)]),
            np.array([0.08, 0.04]),
            (30.0, 30.0, 30.0),
        )
        return Thing(BICYCLE, 0.25, 0.88, 1.05, blobs=(saddle,), wires=tuple(wires))
    r, base = 0.31, 0.66
    blobs = [
        Blob(
            np.stack([disc(0.0, y, r, r * 0.8, 8)]).reshape(-1, 3),
            np.full(8, r * 0.2),
            (24.0, 24.0, 26.0),
            rank=-1,
        )
        for y in (-base, base)
    ]
    blobs += [
        Blob(
            np.array([(0.0, -0.25, 0.42), (0.0, 0.3, 0.45), (0.0, 0.1, 0.3)]),
            np.full(3, 0.17),
            (70.0, 70.0, 74.0),
        ),
        Blob(
            np.array([(0.0, 0.1, 0.78), (0.0, 0.38, 0.82)]), np.array([0.15, 0.17]), colour, rank=1
        ),
        Blob(
            np.array([(0.0, -0.75, 0.82), (0.0, 0.0, 0.74)]),
            np.array([0.1, 0.14]),
            (30.0, 30.0, 32.0),
            rank=1,
        ),
        Blob(
            np.array([(0.0, 0.62, 0.78), (0.0, 0.5, 0.95)]), np.array([0.14, 0.12]), colour, rank=1
        ),
    ]
    if rng.random() < 0.5:  # a scooter has a shield in front of the legs
        blobs.append(
            Blob(
                np.array([(-0.2, 0.45, 0.75), (0.2, 0.45, 0.75), (0.0, 0.5, 0.35)]),
                np.full(3, 0.07),
                colour,
                rank=1,
            )
        )
    wires = [
        Wire(np.array([(0.0, base, r), (0.0, 0.45, 1.0)]), 0.07, (120.0, 120.0, 124.0)),
        Wire(np.array([(-0.36, 0.4, 1.04), (0.36, 0.4, 1.04)]), 0.05, (30.0, 30.0, 32.0)),
    ]
    lamps = (
        Lamp((0.0, 0.78, 0.85), 1.0, (225.0, 240.0, 255.0), 0.9),
        Lamp((0.0, -0.85, 0.8), -1.0, (40.0, 40.0, 255.0), 0.35),
    )
    return Thing(MOTORCYCLE, 0.33, 0.98, 1.1, blobs=tuple(blobs), wires=tuple(wires), lamps=lamps)


def make_box(
    half_width: float, half_length: float, tall: float, colour: Colour, decals: bool, seed: int
) -> Thing:
    """A box that stands about: pump, bin, wall, kerb; with panels painted on it if asked."""
    shape = Shape()
    sides = shape.box((-half_width, half_width), (-half_length, half_length), (0.0, tall), colour)
    if decals:
        rng = np.random.default_rng(seed)
        for name in ("left", "right", "back", "front"):
            for _ in range(int(rng.integers(1, 4))):
                u0, v0 = rng.uniform(0.05, 0.6), rng.uniform(0.08, 0.75)
                u1, v1 = (
                    min(0.95, u0 + rng.uniform(0.15, 0.6)),
                    min(0.96, v0 + rng.uniform(0.08, 0.3)),
                )
                shape.face(on_quad(sides[name], (u0, u1), (v0, v1)), any_colour(rng))
    return Thing(STATIC, half_width, half_length, tall, (shape.build(),))


def make_tube(radius: float, top: float, tall: float, colour: Colour, band: Colour) -> Thing:
    """A post, bin or cone with a band around it."""
    shape = Shape()
    turn = np.linspace(0.0, 2.0 * math.pi, 10, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    levels = [(0.0, 0.45, colour), (0.45, 0.7, band), (0.7, 1.0, colour)]
    for low, high, tone in levels:
        r0, r1 = radius + (top - radius) * low, radius + (top - radius) * high
        for i in range(10):
            a, b = ring[i], ring[(i + 1) % 10]
            shape.face(
                [
                    (*(a * r0), low * tall),
                    (*(b * r0), low * tall),
                    (*(b * r1), high * tall),
                    (*(a * r1), high * tall),
                ],
                tone,
            )
    shape.face(np.column_stack([ring * top, np.full(10, tall)]), mixed(colour, (0.0,) * 3, 0.3))
    return Thing(STATIC, radius, radius, tall, (shape.build(),))


def make_tree(rng: np.random.Generator) -> Thing:
    """A tree or a bush."""
    tall = rng.uniform(1.0, 6.0)
    trunk = Blob(
        np.array([(0.0, 0.0, 0.0), (0.0, 0.0, tall * 0.6)]),
        np.array([0.12, 0.08]),
        (50.0, 70.0, 90.0),
    )
    leaf = (rng.uniform(25.0, 60.0), rng.uniform(60.0, 130.0), rng.uniform(30.0, 80.0))
    crowns = [
        Blob(
            rng.uniform(-0.35, 0.35, (2, 3)) * tall * 0.5 + (0.0, 0.0, tall * 0.72),
            rng.uniform(0.14, 0.26, 2) * tall,
            mixed(leaf, (20.0, 40.0, 20.0), rng.random() * 0.5),
        )
        for _ in range(5)
    ]
    return Thing(STATIC, 0.3, 0.3, tall, blobs=(trunk, *crowns))


def make_sign(rng: np.random.Generator) -> Thing:
    """A price board, traffic sign or poster on a post."""
    low, tall = rng.uniform(0.2, 2.0), rng.uniform(2.2, 4.5)
    wide = rng.uniform(0.3, 0.9)
    post = Shape()
    post.box((-0.05, 0.05), (-0.05, 0.05), (0.0, low + 0.1), (110.0, 110.0, 112.0))
    board = Shape(rank=1)
    sides = board.box((-wide, wide), (-0.08, 0.08), (low, tall), any_colour(rng))
    for name in ("back", "front"):
        for i in range(int(rng.integers(1, 5))):
            v = 0.06 + i * 0.23
            board.face(
                on_quad(sides[name], (0.1, rng.uniform(0.4, 0.9)), (v, v + 0.14)),
                any_colour(rng),
                bool(rng.random() < 0.3),
            )
    return Thing(STATIC, wide, 0.08, tall, (post.build(), board.build()))
