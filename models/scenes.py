"""Rendered gas-station scenes with exact ground truth.

Belongs here: the camera, light and weather, drawing, the forecourts, single training pictures
(`random_sample`) and scripted clips (`clip`, `layout`). Does not belong here: the shapes of
vehicles and people (solids.py), neural networks, scoring, and anything that needs torch.

Everything is drawn from a seed: the same seed gives the same picture on the same library versions.
Coordinates are metres: x to the right, y away from the camera, z up; headings turn from +x to +y.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run as a script
from models.solids import (
    BICYCLE,
    BUS,
    CAR,
    LABELS,
    MOTORCYCLE,
    PERSON,
    STATIC,
    TRUCK,
    Blob,
    Colour,
    Floats,
    Looks,
    Placed,
    Shape,
    Solid,
    Thing,
    Wire,
    any_colour,
    make_box,
    make_bus,
    make_car,
    make_looks,
    make_person,
    make_sign,
    make_tree,
    make_truck,
    make_tube,
    make_two_wheeler,
    mixed,
    on_quad,
)

Picture = NDArray[np.uint8]

MIN_VISIBLE = 0.25  # of an object's own outline; annotators of real pictures stop about there
MIN_SIDE_PX = 8.0
NEAR_M = 0.4
SUBPIXEL_BITS = 4


# --------------------------------------------------------------------------- camera


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above the ground plane."""

    position: Floats
    rotation: Floats  # rows: right, down, forward
    focal: float
    width: int
    height: int

    @staticmethod
    def make(
        width: int,
        height: int,
        above: float,
        pitch: float,
        yaw: float = 0.0,
        roll: float = 0.0,
        focal: float = 0.85,
    ) -> Camera:
        """Angles in degrees, pitch downwards; the focal length in picture widths."""
        p, y, r = math.radians(pitch), math.radians(yaw), math.radians(roll)
        ahead = np.array(
            [math.sin(y) * math.cos(p), math.cos(y) * math.cos(p), -math.sin(p)], dtype=np.float64
        )
        right = np.array([math.cos(y), -math.sin(y), 0.0])
        down = np.cross(ahead, right)
        rotation = np.stack(
            [
                math.cos(r) * right + math.sin(r) * down,
                -math.sin(r) * right + math.cos(r) * down,
                ahead,
            ]
        )
        return Camera(np.array([0.0, 0.0, above]), rotation, focal * width, width, height)

    def see(self, points: Floats) -> tuple[Floats, Floats]:
        """Picture coordinates and depth of world points; depth is kept above zero."""
        local = (points - self.position) @ self.rotation.T
        depth = local[:, 2]
        safe = np.maximum(depth, 1e-3)
        uv = local[:, :2] * (self.focal / safe)[:, None]
        uv += (self.width / 2.0, self.height / 2.0)
        return uv, depth

    def ground(self, u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
        """Where picture points meet the ground; distance is infinite above the horizon."""
        rays = np.stack(
            [
                (u - self.width / 2.0) / self.focal,
                (v - self.height / 2.0) / self.focal,
                np.ones_like(u),
            ],
            axis=-1,
        )
        world = rays @ self.rotation
        falling = world[..., 2] < -1e-3
        reach = np.where(falling, self.position[2] / np.where(falling, -world[..., 2], 1.0), np.inf)
        near = np.where(falling, reach, 0.0)
        return (
            self.position[0] + near * world[..., 0],
            self.position[1] + near * world[..., 1],
            reach,
        )

    def polygon(self, points: Floats) -> Floats | None:
        """Picture outline of a world polygon, cut where it passes behind the camera."""
        local = (points - self.position) @ self.rotation.T
        kept: list[Floats] = []
        for here, there in zip(local, np.roll(local, -1, axis=0), strict=True):
            if here[2] > NEAR_M:
                kept.append(here)
            if (here[2] > NEAR_M) != (there[2] > NEAR_M):
                share = (NEAR_M - here[2]) / (there[2] - here[2])
                kept.append(here + share * (there - here))
        if len(kept) < 3:
            return None
        cut = np.array(kept)
        uv: Floats = cut[:, :2] * (self.focal / cut[:, 2])[:, None]
        uv += (self.width / 2.0, self.height / 2.0)
        return uv


# --------------------------------------------------------------------------- light


@dataclass(frozen=True)
class Light:
    """What shines on a scene."""

    sun: Floats  # unit vector towards the sun
    ambient: float
    diffuse: float
    level: float  # 1 by day; what is left away from lamps by night
    tint: Colour
    lamps: Floats  # rows x, y, radius, strength
    shadow: float
    dark: bool

    def at(self, x: float, y: float) -> float:
        """Brightness at a ground point."""
        if not len(self.lamps):
            return self.level
        away = (self.lamps[:, 0] - x) ** 2 + (self.lamps[:, 1] - y) ** 2
        pools = self.lamps[:, 3] * np.exp(-away / (2.0 * self.lamps[:, 2] ** 2))
        return float(self.level + pools.sum())


def make_light(rng: np.random.Generator, hour: str, lamps: Sequence[tuple[float, float]]) -> Light:
    """Daylight, dusk or night; lamps burn at dusk and by night."""
    around = rng.uniform(0.0, 2.0 * math.pi)
    up = math.radians(rng.uniform(25.0, 70.0))
    sun = np.array([math.cos(around) * math.cos(up), math.sin(around) * math.cos(up), math.sin(up)])
    rows = np.zeros((0, 4))
    if hour != "day":
        rows = np.array(
            [(x, y, rng.uniform(4.0, 8.0), rng.uniform(0.35, 0.8)) for x, y in lamps]
        ).reshape(-1, 4)
    if hour == "day":
        overcast = rng.random() < 0.4
        shadow = 0.12 if overcast else rng.uniform(0.3, 0.55)
        diffuse = 0.2 if overcast else rng.uniform(0.35, 0.55)
        warm = rng.uniform(-0.06, 0.06)
        tint = (1.0 - warm, 1.0, 1.0 + warm)
        return Light(sun, 0.62, diffuse, 1.0, tint, rows, shadow, False)
    if hour == "dusk":
        return Light(sun, 0.7, 0.25, rng.uniform(0.35, 0.6), (1.05, 0.97, 0.95), rows, 0.15, True)
    level = rng.uniform(0.1, 0.25)
    return Light(sun, 0.75, 0.2, level, (0.85, 0.97, 1.1), rows, 0.12, True)


# --------------------------------------------------------------------------- drawing


@dataclass
class Canvas:
    """A picture and, in step with it, which track each pixel shows (0: none)."""

    image: Picture
    marks: Picture


def fixed(points: Floats) -> NDArray[np.int32]:
    """Picture coordinates as OpenCV's fixed-point numbers, kept far from their limits."""
    return np.rint(np.clip(points, -3000.0, 6000.0) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def fill(canvas: Canvas, points: Floats, colour: Floats) -> None:
    """Fills a convex polygon with smooth edges."""
    b, g, r = np.clip(colour, 0.0, 255.0).tolist()
    cv2.fillConvexPoly(canvas.image, fixed(points), (b, g, r), cv2.LINE_AA, SUBPIXEL_BITS)


def hull(points: Floats) -> Floats:
    """Convex hull of picture points."""
    made = cv2.convexHull(points.astype(np.float32))
    return made.reshape(-1, 2).astype(np.float64)


UNIT_CIRCLE = np.stack(
    [np.cos(np.arange(12) * math.pi / 6.0), np.sin(np.arange(12) * math.pi / 6.0)], axis=1
)


class Sight:
    """One placed thing as one camera sees it: outlines to fill, back to front."""

    def __init__(self, placed: Placed, camera: Camera) -> None:
        self.placed = placed
        self.camera = camera
        thing = placed.thing
        self.turn = placed.matrix()
        self.shift = np.array([placed.x, placed.y, 0.0])
        self.local_eye = self.turn.T @ (camera.position - self.shift)
        parts: list[tuple[int, float, int, Any, Floats, Floats]] = []
        self.whole = True
        outlines: list[Floats] = []
        for solid in thing.solids:
            uv, depth = camera.see(solid.vertices @ self.turn.T + self.shift)
            if depth.min() < NEAR_M:
                self.whole = False
                continue
            if thing.along:
                low, high = solid.vertices[:, 1].min(), solid.vertices[:, 1].max()
                eye = self.local_eye[1]
                order = -float(max(low - eye, eye - high, 0.0))
            else:
                order = -float(depth.mean())
            edge = hull(uv)
            outlines.append(edge)
            parts.append((solid.rank, order, len(parts), solid, uv, edge))
        if thing.blobs:
            counts = [len(b.radii) for b in thing.blobs]
            centres = np.concatenate([b.centres for b in thing.blobs])
            uv, depth = camera.see(centres @ self.turn.T + self.shift)
            sizes = np.concatenate([b.radii for b in thing.blobs]) * camera.focal
            if depth.min() < NEAR_M:
                self.whole = False
            else:
                sizes = sizes / depth
                first = 0
                for blob, count in zip(thing.blobs, counts, strict=True):
                    part = slice(first, first + count)
                    first += count
                    rims = uv[part, None, :] + sizes[part, None, None] * UNIT_CIRCLE
                    edge = hull(rims.reshape(-1, 2))
                    outlines.append(edge)
                    inner = uv[part, None, :] + sizes[part, None, None] * (
                        UNIT_CIRCLE * 0.62 + (-0.22, -0.26)
                    )
                    parts.append(
                        (
                            blob.rank,
                            -float(depth[part].mean()),
                            len(parts),
                            blob,
                            hull(inner.reshape(-1, 2)),
                            edge,
                        )
                    )
        for wire in thing.wires:
            uv, depth = camera.see(wire.points @ self.turn.T + self.shift)
            if depth.min() < NEAR_M:
                self.whole = False
                continue
            outlines.append(uv)
            parts.append((wire.rank, -float(depth.mean()), len(parts), wire, uv, uv))
        parts.sort(key=lambda part: part[:3])
        self.parts = parts
        self.distance = float(
            np.hypot(placed.x - camera.position[0], placed.y - camera.position[1])
        )
        if outlines:
            every = np.concatenate(outlines)
            self.box = np.concatenate([every.min(axis=0), every.max(axis=0)])
        else:
            self.box = np.zeros(4)
            self.whole = False

    def touches(self, other: Sight, margin: float = 2.0) -> bool:
        """Whether both could share a pixel."""
        a, b = self.box, other.box
        return bool(
            a[0] < b[2] + margin
            and b[0] < a[2] + margin
            and a[1] < b[3] + margin
            and b[1] < a[3] + margin
        )

    def in_picture(self) -> bool:
        """Whether any of it can be inside the picture."""
        b = self.box
        return bool(
            self.whole
            and b[0] < self.camera.width
            and b[1] < self.camera.height
            and b[2] > 0
            and b[3] > 0
        )

    def paint(self, canvas: Canvas, light: Light, mark: int) -> None:
        """Draws it over what is there."""
        here = light.at(self.placed.x, self.placed.y)
        tint = np.array(light.tint) * here
        sun = self.turn.T @ light.sun
        for _, _, _, part, shape, edge in self.parts:
            if isinstance(part, Solid):
                firsts = part.vertices[part.starts]
                facing = ((self.local_eye - firsts) * part.normals).sum(axis=1) > 0.0
                shine = light.ambient + light.diffuse * np.maximum(0.0, part.normals @ sun)
                shine = shine + 0.08 * np.maximum(0.0, part.normals[:, 2])
                tones = part.colours * shine[:, None] * tint
                if light.dark and part.bright.any():
                    tones = np.where(part.bright[:, None], part.colours, tones)
                for i in np.flatnonzero(facing):
                    first = part.starts[i]
                    fill(canvas, shape[first : first + part.sizes[i]], tones[i])
                cv2.fillConvexPoly(canvas.marks, fixed(edge), (mark,), cv2.LINE_8, SUBPIXEL_BITS)
            elif isinstance(part, Blob):
                tone = np.array(part.colour) * tint
                fill(canvas, edge, tone * (light.ambient + 0.02))
                fill(canvas, shape, tone * (light.ambient + light.diffuse * 0.8))
                cv2.fillConvexPoly(canvas.marks, fixed(edge), (mark,), cv2.LINE_8, SUBPIXEL_BITS)
            else:
                depth = max(NEAR_M, self.distance)
                thick = max(1, round(part.thickness * self.camera.focal / depth))
                b, g, r = np.clip(np.array(part.colour) * tint * 0.9, 0, 255).tolist()
                points = [fixed(shape).reshape(-1, 1, 2)]
                cv2.polylines(
                    canvas.image, points, False, (b, g, r), thick, cv2.LINE_AA, SUBPIXEL_BITS
                )
                cv2.polylines(
                    canvas.marks, points, False, (mark,), thick, cv2.LINE_8, SUBPIXEL_BITS
                )


def hides(near: Sight, far: Sight) -> bool | None:
    """Whether the first stands before the second; None where no line parts their footprints."""
    eye = near.camera.position[:2]
    a, b = near.placed.corners(), far.placed.corners()
    for mine, other, answer in ((a, b, True), (b, a, False)):
        edges = np.roll(mine, -1, axis=0) - mine
        outward = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
        apart = ((other[None] - mine[:, None]) * outward[:, None]).sum(axis=2).min(axis=1) >= -1e-6
        if apart.any():
            first = int(np.flatnonzero(apart)[0])
            eye_outside = float((eye - mine[first]) @ outward[first]) > 0.0
            return answer != eye_outside
    return None


def back_to_front(sights: Sequence[Sight]) -> list[Sight]:
    """Painter's order; long vehicles make plain distance the wrong one."""
    waiting = sorted(sights, key=lambda s: -s.distance)
    count = len(waiting)
    after: list[set[int]] = [set() for _ in range(count)]  # what must be drawn before each
    for i in range(count):
        for j in range(i + 1, count):
            if not waiting[i].touches(waiting[j]):
                continue
            answer = hides(waiting[i], waiting[j])
            if answer is None:
                answer = waiting[i].distance < waiting[j].distance
            if answer:
                after[i].add(j)
            else:
                after[j].add(i)
    order: list[Sight] = []
    left = list(range(count))
    while left:
        pick = next((i for i in left if not after[i].intersection(left)), left[0])
        left.remove(pick)
        order.append(waiting[pick])
    return order


def darken(image: Picture, outline: Floats, share: float, soft: float) -> None:
    """Darkens (share below 1) or lights (above 1) the inside of an outline with soft edges."""
    pad = int(soft * 2 + 2)
    x0, y0 = (np.floor(outline.min(axis=0)) - pad).astype(int)
    x1, y1 = (np.ceil(outline.max(axis=0)) + pad).astype(int)
    x0, y0 = max(0, int(x0)), max(0, int(y0))
    x1, y1 = min(image.shape[1], int(x1)), min(image.shape[0], int(y1))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    mask = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    cv2.fillConvexPoly(mask, fixed(outline - (x0, y0)), (255,), cv2.LINE_AA, SUBPIXEL_BITS)
    if soft >= 0.7:
        side = int(soft) * 2 + 1
        mask = cv2.blur(mask, (side, side)).astype(np.uint8)
    region = image[y0:y1, x0:x1]
    wide = cv2.merge([mask, mask, mask])
    if share <= 1.0:
        loss = cv2.multiply(region, wide, scale=(1.0 - share) / 255.0)
        region[:] = cv2.subtract(region, loss)
    else:
        gain = cv2.multiply(region, wide, scale=(share - 1.0) / 255.0)
        region[:] = cv2.add(region, gain)


def cast_shadow(image: Picture, sight: Sight, light: Light) -> None:
    """The dark patch underneath, the shadow that the sun throws, and the headlights' pool."""
    placed, camera = sight.placed, sight.camera
    thing = placed.thing
    soft = 0.12 * camera.focal / max(2.0, sight.distance)
    foot = np.column_stack([placed.corners(0.08), np.zeros(4)])
    outline = camera.polygon(foot)
    if outline is not None and (thing.solids or thing.label in (PERSON, MOTORCYCLE, BICYCLE)):
        small = thing.label in (PERSON, BICYCLE)
        darken(image, outline, 0.75 if small else 0.5, soft)
    if light.shadow > 0.2:
        length = min(2.5, 1.0 / max(0.25, float(light.sun[2])))
        push = -light.sun[:2] * length * thing.tall * 0.8
        narrow = 0.55 if thing.label == PERSON else 1.0
        top = placed.corners(0.0) * narrow + np.array([placed.x, placed.y]) * (1.0 - narrow) + push
        base = placed.corners(0.0) * narrow + np.array([placed.x, placed.y]) * (1.0 - narrow)
        ground = hull(np.concatenate([base, top]))
        outline = camera.polygon(np.column_stack([ground, np.zeros(len(ground))]))
        if outline is not None:
            darken(image, outline, 1.0 - light.shadow, soft * 0.7)
    if light.dark and any(lamp.ahead > 0 for lamp in thing.lamps):
        w, h = thing.half_width, thing.half_length
        fan = np.array(
            [(-w, h, 0.0), (w, h, 0.0), (w * 2.2, h + 7.0, 0.0), (-w * 2.2, h + 7.0, 0.0)]
        )
        outline = camera.polygon(fan @ sight.turn.T + sight.shift)
        if outline is not None:
            darken(image, outline, 1.9, soft * 5.0)


GLOW = np.exp(-(np.hypot(*np.meshgrid(np.linspace(-3, 3, 33), np.linspace(-3, 3, 33))) ** 2) / 1.6)


def shine(image: Picture, sight: Sight, light: Light) -> None:
    """Adds the glare of vehicle lamps."""
    if not light.dark:
        return
    for lamp in sight.placed.thing.lamps:
        world = np.array([lamp.position]) @ sight.turn.T + sight.shift
        towards = sight.camera.position - world[0]
        towards = towards / np.linalg.norm(towards)
        facing = float(sight.turn[:, 1] @ towards) * lamp.ahead
        uv, depth = sight.camera.see(world)
        if facing < 0.05 or depth[0] < 1.0:
            continue
        radius = int(lamp.strength * (0.35 + facing) * sight.camera.focal * 0.7 / depth[0] ** 0.8)
        radius = max(2, min(radius, image.shape[0] // 6))
        x, y = int(uv[0, 0]), int(uv[0, 1])
        x0, y0 = max(0, x - radius), max(0, y - radius)
        x1, y1 = min(image.shape[1], x + radius), min(image.shape[0], y + radius)
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        glow = cv2.resize(GLOW, (2 * radius, 2 * radius))
        glow = glow[y0 - y + radius : y1 - y + radius, x0 - x + radius : x1 - x + radius]
        layer = np.clip(glow[..., None] * lamp.colour * min(1.0, facing + 0.3), 0, 255)
        image[y0:y1, x0:x1] = cv2.add(image[y0:y1, x0:x1], layer.astype(np.uint8))


@dataclass(frozen=True)
class Truth:
    """What one picture shows of one thing."""

    track: int
    label: int
    box: tuple[float, float, float, float]
    x: float
    y: float


def find_truth(marks: Picture, sights: Sequence[Sight]) -> list[Truth]:
    """Tight boxes of the visible pixels; too hidden, too cut off or too small is left out."""
    height, width = marks.shape
    found = []
    for sight in sights:
        placed = sight.placed
        if placed.track <= 0 or not sight.in_picture():
            continue
        b = sight.box
        x0, y0 = max(0, math.floor(b[0]) - 1), max(0, math.floor(b[1]) - 1)
        x1, y1 = min(width, math.ceil(b[2]) + 2), min(height, math.ceil(b[3]) + 2)
        seen = (marks[y0:y1, x0:x1] == placed.track).astype(np.uint8)
        pixels = int(cv2.countNonZero(seen))
        if pixels < 12:
            continue
        alone = Canvas(np.zeros((1, 1, 3), np.uint8), np.zeros((y1 - y0, x1 - x0), np.uint8))
        for _, _, _, part, shape, edge in sight.parts:
            if isinstance(part, Wire):
                thick = max(
                    1, round(part.thickness * sight.camera.focal / max(NEAR_M, sight.distance))
                )
                cv2.polylines(
                    alone.marks,
                    [fixed(shape - (x0, y0)).reshape(-1, 1, 2)],
                    False,
                    (1,),
                    thick,
                    cv2.LINE_8,
                    SUBPIXEL_BITS,
                )
            else:
                cv2.fillConvexPoly(
                    alone.marks, fixed(edge - (x0, y0)), (1,), cv2.LINE_8, SUBPIXEL_BITS
                )
        whole = max(1, int(cv2.countNonZero(alone.marks)))
        inside = (min(b[2], width) - max(b[0], 0)) * (min(b[3], height) - max(b[1], 0))
        in_frame = inside / max(1.0, (b[2] - b[0]) * (b[3] - b[1]))
        if pixels / whole * in_frame < MIN_VISIBLE:
            continue
        rx, ry, rw, rh = cv2.boundingRect(seen)
        if max(rw, rh) < MIN_SIDE_PX or min(rw, rh) < 3:
            continue
        box = (float(x0 + rx), float(y0 + ry), float(x0 + rx + rw), float(y0 + ry + rh))
        found.append(Truth(placed.track, placed.thing.label, box, placed.x, placed.y))
    return found


# --------------------------------------------------------------------------- places


@dataclass
class Layout:
    """A forecourt without its visitors."""

    statics: list[Placed] = field(default_factory=list)
    marks: list[tuple[Floats, Colour, float]] = field(default_factory=list)  # outline, paint, cover
    lamps: list[tuple[float, float]] = field(default_factory=list)
    ground: Colour = (120.0, 122.0, 124.0)
    rough: float = 0.12
    zones: dict[str, Floats] = field(default_factory=dict)
    lines: dict[str, Floats] = field(default_factory=dict)
    axis: float = 0.0


def rectangle(x: float, y: float, half_x: float, half_y: float, turn: float = 0.0) -> Floats:
    """A rectangle on the ground."""
    c, s = math.cos(turn), math.sin(turn)
    local = np.array([(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)])
    flat = local @ np.array([[c, s], [-s, c]]) + (x, y)
    return np.column_stack([flat, np.zeros(4)])


def add_frame(
    layout: Layout, outline: tuple[float, float, float, float], wide: float, colour: Colour
) -> None:
    """Paints the border of a bay: x0, y0, x1, y1."""
    x0, y0, x1, y1 = outline
    for mid_x, mid_y, half_x, half_y in (
        ((x0 + x1) / 2, y0, (x1 - x0) / 2, wide),
        ((x0 + x1) / 2, y1, (x1 - x0) / 2, wide),
        (x0, (y0 + y1) / 2, wide, (y1 - y0) / 2),
        (x1, (y0 + y1) / 2, wide, (y1 - y0) / 2),
    ):
        layout.marks.append((rectangle(mid_x, mid_y, half_x, half_y), colour, 0.85))


def demo_layout(seed: int = 0) -> Layout:
    """The forecourt of the demo clip: two bays left, the unloading point right, a drive behind."""
    rng = np.random.default_rng(seed)
    layout = Layout(ground=(128.0, 130.0, 131.0), rough=0.1)
    brand = (60.0, 60.0, 200.0)
    layout.marks.append((rectangle(0.0, 23.2, 45.0, 3.2), (98.0, 99.0, 100.0), 0.8))
    for x in np.arange(-30.0, 31.0, 4.0):
        layout.marks.append((rectangle(float(x), 20.0, 1.1, 0.08), (225.0, 228.0, 228.0), 0.85))
    add_frame(layout, (0.3, 9.2, 10.4, 17.4), 0.1, (40.0, 200.0, 235.0))
    for i in range(9):
        layout.marks.append(
            (rectangle(0.9 + i * 1.15, 9.75, 0.14, 0.55, 0.7), (40.0, 200.0, 235.0), 0.8)
        )
    add_frame(layout, (-10.0, 12.6, -1.4, 15.9), 0.07, (230.0, 232.0, 232.0))
    layout.marks.append((rectangle(-6.0, 12.0, 0.7, 0.5), (70.0, 72.0, 74.0), 0.5))
    layout.marks.append((rectangle(3.0, 11.4, 0.9, 0.5, 0.4), (80.0, 80.0, 82.0), 0.5))
    kerb = (165.0, 168.0, 170.0)
    layout.statics.append(Placed(make_box(0.7, 3.9, 0.16, kerb, False, 0), -5.8, 17.4, 0.0))
    for i, x in enumerate((-7.6, -4.2)):
        layout.statics.append(
            Placed(make_box(0.3, 0.45, 1.9, (235.0, 236.0, 236.0), True, 11 + i), x, 17.4, 0.0)
        )
    for x in (-9.3, -2.2):
        layout.statics.append(
            Placed(make_box(0.16, 0.16, 6.5, (205.0, 205.0, 208.0), False, 0), x, 17.4, 0.0)
        )
    layout.statics.append(
        Placed(
            make_tube(0.2, 0.05, 0.7, (30.0, 90.0, 240.0), (235.0, 235.0, 235.0)), 0.6, 17.9, 0.0
        )
    )
    layout.statics.append(
        Placed(make_tube(0.3, 0.3, 1.0, (60.0, 90.0, 50.0), (50.0, 80.0, 40.0)), -10.6, 17.2, 0.0)
    )
    layout.statics.append(
        Placed(make_box(0.25, 0.4, 1.3, (60.0, 170.0, 220.0), True, 5), 11.2, 17.6, 0.0)
    )
    layout.statics.append(Placed(make_sign(rng), 14.5, 27.2, 0.0))
    layout.statics.append(Placed(make_box(0.25, 30.0, 0.18, kerb, False, 0), 0.0, 27.6, 0.0))
    shop = Shape()
    sides = shop.box((-4.0, 4.0), (-11.0, 11.0), (0.0, 4.2), (190.0, 200.0, 205.0))
    wall = sides["right"]
    shop.face(on_quad(wall, (0.0, 1.0), (0.76, 0.96)), brand)
    for i in range(7):
        u = (0.03 + i * 0.137, 0.03 + i * 0.137 + 0.12)
        shop.face(on_quad(wall, u, (0.0 if i == 4 else 0.14, 0.66)), (105.0, 95.0, 80.0), i == 4)
    thing = Thing(STATIC, 4.0, 11.0, 4.2, (shop.build(),))
    layout.statics.append(Placed(thing, -6.0, 36.0, 0.0))
    for x, y in ((10.0, 33.0), (14.0, 36.0), (19.0, 32.0), (24.0, 35.0), (-22.0, 34.0)):
        layout.statics.append(Placed(make_tree(rng), x, y, 0.0))
    layout.lamps = [(-6.0, 16.0), (5.0, 14.0), (2.0, 24.0), (-14.0, 24.0), (14.0, 24.0)]
    layout.zones = {
        "unload": np.array([(0.0, 8.4), (10.9, 8.4), (10.9, 17.6), (0.0, 17.6)]),
        "pump-1": np.array([(-10.6, 12.0), (-0.8, 12.0), (-0.8, 16.4), (-10.6, 16.4)]),
        "pump-2": np.array([(-10.6, 17.9), (-0.8, 17.9), (-0.8, 20.4), (-10.6, 20.4)]),
        "queue": np.array([(-22.0, 20.6), (-6.0, 20.6), (-6.0, 26.6), (-22.0, 26.6)]),
    }
    layout.lines = {"exit": np.array([(0.9, 17.8), (0.9, 27.4)])}
    return layout


def random_layout(rng: np.random.Generator) -> Layout:
    """Some forecourt, yard or street corner."""
    grey = rng.uniform(60.0, 190.0)
    warm = rng.uniform(0.9, 1.1)
    layout = Layout(ground=(grey / warm, grey, grey * warm), rough=float(rng.uniform(0.04, 0.25)))
    axis = rng.uniform(-0.6, 0.6) + (math.pi / 2 if rng.random() < 0.4 else 0.0)
    layout.axis = float(axis)
    paints: tuple[Colour, ...] = ((228.0, 230.0, 230.0), (40.0, 195.0, 230.0), (60.0, 60.0, 190.0))

    def along(a: float, b: float) -> tuple[float, float]:
        return (
            math.cos(axis) * a - math.sin(axis) * b,
            14.0 + math.sin(axis) * a + math.cos(axis) * b,
        )

    for _ in range(int(rng.integers(0, 4))):  # patches of another ground
        x, y = along(rng.uniform(-15, 15), rng.uniform(-8, 25))
        tone = mixed(layout.ground, any_colour(rng, 40, 200), rng.uniform(0.2, 0.7))
        layout.marks.append(
            (rectangle(x, y, rng.uniform(2, 30), rng.uniform(1, 8), axis), tone, 0.8)
        )
    paint = paints[int(rng.integers(3))]
    if rng.random() < 0.7:  # bays
        step, count = rng.uniform(2.6, 4.0), int(rng.integers(3, 9))
        base = rng.uniform(-6, 10)
        for i in range(count):
            x, y = along((i - count / 2) * step, base)
            layout.marks.append((rectangle(x, y, 0.06, rng.uniform(2.0, 2.8), axis), paint, 0.8))
    for _ in range(int(rng.integers(0, 3))):  # lanes
        b = rng.uniform(-8, 25)
        for a in np.arange(-30.0, 30.0, rng.uniform(2.5, 6.0)):
            x, y = along(float(a), b)
            layout.marks.append((rectangle(x, y, rng.uniform(0.6, 3.0), 0.08, axis), paint, 0.8))
    for _ in range(int(rng.integers(0, 8))):  # stains and puddles
        x, y = along(rng.uniform(-12, 12), rng.uniform(-9, 16))
        turn = np.linspace(0, 2 * math.pi, 12, endpoint=False)
        spot = np.stack(
            [
                x + np.cos(turn) * rng.uniform(0.2, 1.6),
                y + np.sin(turn) * rng.uniform(0.2, 1.2),
                turn * 0,
            ],
            axis=1,
        )
        layout.marks.append((spot, any_colour(rng, 30, 150), float(rng.uniform(0.3, 0.8))))
    if rng.random() < 0.75:  # islands with pumps
        for _ in range(int(rng.integers(1, 4))):
            a, b = rng.uniform(-14, 14), rng.uniform(0, 22)
            x, y = along(a, b)
            half = rng.uniform(2.0, 4.5)
            layout.statics.append(
                Placed(
                    make_box(0.6, half, 0.16, mixed(layout.ground, (200.0,) * 3, 0.5), False, 0),
                    x,
                    y,
                    axis,
                )
            )
            tone = any_colour(rng, 40, 245)
            for k in range(int(rng.integers(1, 4))):
                px, py = along(a + (k - 1) * half * 0.62, b)
                pump = make_box(
                    rng.uniform(0.22, 0.35),
                    rng.uniform(0.3, 0.6),
                    rng.uniform(1.4, 2.3),
                    tone,
                    True,
                    int(rng.integers(1 << 30)),
                )
                layout.statics.append(Placed(pump, px, py, axis))
            for k in (-1, 1):
                if rng.random() < 0.6:
                    px, py = along(a + k * half * 0.93, b)
                    post = make_box(
                        0.15, 0.15, rng.uniform(4.0, 7.0), any_colour(rng, 120), False, 0
                    )
                    layout.statics.append(Placed(post, px, py, axis))
    if rng.random() < 0.6:  # a wall, shop or parked containers behind
        x, y = along(rng.uniform(-15, 15), rng.uniform(22, 40))
        layout.statics.append(
            Placed(
                make_box(
                    rng.uniform(1.0, 4.0),
                    rng.uniform(3.0, 14.0),
                    rng.uniform(2.0, 6.0),
                    any_colour(rng, 60),
                    True,
                    int(rng.integers(1 << 30)),
                ),
                x,
                y,
                axis,
            )
        )
    for _ in range(int(rng.integers(0, 9))):  # clutter that is nothing to report
        x, y = along(rng.uniform(-13, 13), rng.uniform(-9, 28))
        kind = int(rng.integers(6))
        if kind == 0:
            clutter = make_tube(
                rng.uniform(0.15, 0.3),
                0.04,
                rng.uniform(0.4, 0.9),
                (30.0, 90.0, 240.0),
                (235.0, 235.0, 235.0),
            )
        elif kind == 1:
            r = rng.uniform(0.08, 0.45)
            clutter = make_tube(
                r,
                r * rng.uniform(0.8, 1.1),
                rng.uniform(0.5, 1.8),
                any_colour(rng),
                any_colour(rng),
            )
        elif kind == 2:
            clutter = make_sign(rng)
        elif kind == 3:
            clutter = make_tree(rng)
        elif kind == 4:
            clutter = make_box(
                rng.uniform(0.15, 1.0),
                rng.uniform(0.15, 1.0),
                rng.uniform(0.2, 1.7),
                any_colour(rng),
                bool(rng.random() < 0.6),
                int(rng.integers(1 << 30)),
            )
        else:
            bends = np.cumsum(rng.normal(0, 0.35, (10, 3)), axis=0)
            bends[:, 2] = 0.03
            clutter = Thing(STATIC, 0.3, 0.3, 0.1, wires=(Wire(bends, 0.07, (30.0,) * 3),))
        layout.statics.append(Placed(clutter, x, y, float(rng.uniform(0, 6.28))))
    layout.lamps = [along(rng.uniform(-14, 14), rng.uniform(-6, 25)) for _ in range(5)]
    return layout


def noise_tile(rng: np.random.Generator, side: int = 256) -> NDArray[np.float32]:
    """Repeating noise of several grains, mean 0, about -1..1."""
    tile = np.zeros((side, side), np.float32)
    for cells, weight in ((8, 0.5), (32, 0.35), (128, 0.3), (256, 0.35)):
        grain = rng.standard_normal((cells, cells)).astype(np.float32)
        tile += weight * cv2.resize(grain, (side, side), interpolation=cv2.INTER_LINEAR)
    return tile


def draw_ground(camera: Camera, layout: Layout, light: Light, rng: np.random.Generator) -> Picture:
    """Sky, horizon, textured ground with its paint, and the pools of the lamps."""
    width, height = camera.width, camera.height
    half = (max(2, width // 2), max(2, height // 2))
    us, vs = np.meshgrid(
        (np.arange(half[0]) + 0.5) * width / half[0], (np.arange(half[1]) + 0.5) * height / half[1]
    )
    gx, gy, reach = camera.ground(us, vs)
    falling = np.isfinite(reach)
    tile = noise_tile(rng)
    grain, broad = (
        cv2.remap(
            tile,
            np.abs(gx * cells % 510.0 - 255.0).astype(np.float32),  # mirrored: no seams
            np.abs(gy * cells % 510.0 - 255.0).astype(np.float32),
            cv2.INTER_LINEAR,
        )
        for cells in (9.0, 0.8)
    )
    fade = 1.0 / (1.0 + np.where(falling, reach, 1e3) / 15.0)
    tone = 1.0 + layout.rough * (grain * fade * 1.2 + broad * 0.6)
    paint = np.array(layout.ground)[None, None] * tone[..., None]
    sky = np.array(any_colour(rng, 150, 240) if rng.random() < 0.3 else (225.0, 210.0, 190.0))
    slope = np.clip(vs / height, 0, 1)[..., None]
    paint = np.where(falling[..., None], paint, sky * (0.8 + 0.35 * slope))
    image = cv2.resize(np.clip(paint, 0, 255).astype(np.uint8), (width, height))
    for outline, colour, cover in layout.marks:
        shape = camera.polygon(outline)
        if (
            shape is None
            or (shape.max(axis=0) < 0).any()
            or (shape.min(axis=0) > (width, height)).any()
        ):
            continue
        x0, y0 = np.maximum(0, np.floor(shape.min(axis=0)) - 1).astype(int)
        x1, y1 = np.ceil(np.minimum((width, height), shape.max(axis=0) + 2)).astype(int)
        if x1 - x0 < 1 or y1 - y0 < 1:
            continue
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillConvexPoly(mask, fixed(shape - (x0, y0)), (255,), cv2.LINE_AA, SUBPIXEL_BITS)
        share = (mask.astype(np.float32) * (cover / 255.0))[..., None]
        region = image[y0:y1, x0:x1]
        region[:] = (region * (1.0 - share) + np.array(colour) * share).astype(np.uint8)
    pools = np.full(gx.shape, light.level)
    for x, y, radius, strength in light.lamps:
        pools += strength * np.exp(-((gx - x) ** 2 + (gy - y) ** 2) / (2 * radius**2))
    pools = np.where(falling, pools, light.level * (0.9 if light.level > 0.9 else 0.4))
    lit = cv2.resize(pools.astype(np.float32), (width, height))[..., None]
    out: Picture = np.clip(image * (lit * np.array(light.tint)), 0, 255).astype(np.uint8)
    return out


# --------------------------------------------------------------------------- single pictures


def overlaps(a: Floats, b: Floats) -> bool:
    """Whether two footprints share ground."""
    for mine, other in ((a, b), (b, a)):
        edges = np.roll(mine, -1, axis=0) - mine
        outward = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
        gaps = ((other[None] - mine[:, None]) * outward[:, None]).sum(axis=2).min(axis=1)
        if (gaps >= 0.0).any():
            return False
    return True


def random_camera(rng: np.random.Generator, width: int, height: int, like_demo: bool) -> Camera:
    """Cameras as stations hang them, and now and then one at eye height."""
    if like_demo:
        return Camera.make(
            width,
            height,
            rng.uniform(4.4, 6.2),
            rng.uniform(15.0, 25.0),
            rng.uniform(-14.0, 14.0),
            rng.uniform(-2.0, 2.0),
            rng.uniform(0.7, 1.1),
        )
    if rng.random() < 0.25:
        return Camera.make(
            width,
            height,
            rng.uniform(1.3, 2.6),
            rng.uniform(0.0, 14.0),
            rng.uniform(-25.0, 25.0),
            rng.uniform(-4.0, 4.0),
            rng.uniform(0.7, 1.5),
        )
    above = rng.uniform(2.5, 8.0)
    pitch = rng.uniform(8.0, 40.0) + (above - 2.5) * 1.5
    return Camera.make(
        width,
        height,
        above,
        pitch,
        rng.uniform(-30.0, 30.0),
        rng.uniform(-4.0, 4.0),
        rng.uniform(0.55, 1.3),
    )


def random_visitors(
    rng: np.random.Generator, camera: Camera, layout: Layout, taken: list[Floats]
) -> list[Placed]:
    """People and vehicles spread over the ground in view, tracks numbered from 1."""
    wanted = int(
        rng.choice([0, 1, 2, 3, 5, 7, 10, 13], p=[0.02, 0.08, 0.15, 0.2, 0.2, 0.17, 0.12, 0.06])
    )
    low = camera.height * rng.uniform(-0.1, 0.25)
    reach_limit = rng.uniform(18.0, 45.0) * max(0.7, camera.focal / camera.width)
    placed: list[Placed] = []
    shares = np.array([0.36, 0.1, 0.27, 0.09, 0.06, 0.12])
    for _ in range(wanted * 3):
        if len(placed) >= wanted:
            break
        label = int(rng.choice(6, p=shares))
        u, v = rng.uniform(-0.05, 1.05) * camera.width, rng.uniform(low, camera.height * 1.12)
        x, y, reach = (float(n) for n in camera.ground(np.array(u), np.array(v)))
        if not math.isfinite(reach) or reach > reach_limit:
            continue
        if reach < {BUS: 7.0, TRUCK: 7.0, CAR: 3.5}.get(label, 2.0):
            continue
        heading = rng.uniform(0.0, 2.0 * math.pi)
        if label != PERSON and rng.random() < 0.75:
            heading = layout.axis + math.pi / 2 * int(rng.integers(4)) + rng.normal(0.0, 0.08)
        rider: Thing | None = None
        if label == CAR:
            thing = make_car(rng)
        elif label == TRUCK:
            thing = make_truck(rng)
        elif label == BUS:
            thing = make_bus(rng)
        elif label == PERSON:
            gait = str(rng.choice(["walk", "stand", "reach"], p=[0.6, 0.2, 0.2]))
            thing = make_person(make_looks(rng), rng.uniform(0.0, 6.28), gait)
        else:
            thing = make_two_wheeler(rng, label)
            if rng.random() < 0.8:
                gait = "ride" if label == MOTORCYCLE else "cycle"
                rider = make_person(make_looks(rng), rng.uniform(0.0, 6.28), gait)
        here = Placed(thing, x, y, float(heading), len(placed) + 1)
        corners = here.corners(0.1)
        if any(overlaps(corners, other) for other in taken):
            continue
        taken.append(corners)
        placed.append(here)
        if rider is not None:
            # a hand's breadth nearer, so that the rider is drawn over the machine
            towards = camera.position[:2] - (x, y)
            towards = 0.02 * towards / np.linalg.norm(towards)
            placed.append(
                Placed(
                    rider,
                    x + float(towards[0]),
                    y + float(towards[1]),
                    float(heading),
                    len(placed) + 1,
                )
            )
    return placed


def weather(image: Picture, rng: np.random.Generator, infrared: bool, dark: bool) -> Picture:
    """What lens, sensor, rain and codec do to a picture."""
    height, width = image.shape[:2]
    work: NDArray[Any] = image
    if rng.random() < 0.12:  # rain
        streaks = np.zeros((height, width), np.uint8)
        lean = rng.uniform(-0.3, 0.3)
        for _ in range(int(rng.integers(40, 260))):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            run = int(rng.integers(4, 22))
            cv2.line(
                streaks,
                (x, y),
                (int(x + lean * run), y + run),
                (int(rng.integers(25, 90)),),
                1,
                cv2.LINE_AA,
            )
        work = cv2.add(work, cv2.merge([streaks] * 3))
    if rng.random() < 0.35:
        work = cv2.GaussianBlur(work, (0, 0), rng.uniform(0.4, 1.3))
    values = work.astype(np.float32)
    if infrared:
        grey = values @ np.array([0.2, 0.4, 0.4], np.float32)
        grey = np.clip((grey - 15.0) * rng.uniform(1.2, 2.2), 0, 255)
        values = np.repeat(grey[..., None], 3, axis=2)
    elif rng.random() < 0.1:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.5:  # uneven light and lens shading
        shading = cv2.resize(
            rng.uniform(0.78, 1.15, (4, 5)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        values *= shading[..., None]
    gain, lift = rng.uniform(0.75, 1.3), rng.uniform(-14.0, 14.0)
    values = values * gain + lift
    values *= rng.uniform(0.93, 1.07, 3).astype(np.float32)
    gamma = rng.uniform(0.75, 1.3)
    values = 255.0 * (np.clip(values, 0, 255) / 255.0) ** gamma
    sigma = rng.uniform(1.0, 9.0 if dark else 5.0)
    values += sigma * rng.standard_normal((height, width, 1)).astype(np.float32)
    if rng.random() < 0.5:
        values += 0.5 * sigma * rng.standard_normal((height, width, 3)).astype(np.float32)
    out = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        quality = int(rng.integers(35, 95))
        coded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return out


def random_sample(seed: int, size: tuple[int, int] = (416, 234)) -> tuple[Picture, Floats]:
    """One training picture of (width, height), BGR, and its boxes: rows x0, y0, x1, y1, class."""
    rng = np.random.default_rng(seed)
    like_demo = bool(rng.random() < 0.35)
    grow = rng.uniform(1.0, 1.8)
    width, height = round(size[0] * grow), round(size[1] * grow)
    camera = random_camera(rng, width, height, like_demo)
    layout = demo_layout(int(rng.integers(1 << 30))) if like_demo else random_layout(rng)
    if like_demo:
        shade = rng.uniform(0.6, 1.3)
        layout.ground = (128.0 * shade, 130.0 * shade, 131.0 * shade)
    hour = str(rng.choice(["day", "dusk", "night"], p=[0.62, 0.14, 0.24]))
    infrared = hour == "night" and rng.random() < 0.5
    light = make_light(rng, hour, layout.lamps)
    statics = [Sight(p, camera) for p in layout.statics]
    taken = [s.placed.corners() for s in statics if s.placed.thing.tall > 0.3]
    visitors = [Sight(p, camera) for p in random_visitors(rng, camera, layout, taken)]
    shown = [s for s in statics + visitors if s.in_picture()]
    canvas = Canvas(draw_ground(camera, layout, light, rng), np.zeros((height, width), np.uint8))
    for sight in shown:
        if sight.placed.thing.tall > 0.3:
            cast_shadow(canvas.image, sight, light)
    for sight in back_to_front(shown):
        sight.paint(canvas, light, max(0, sight.placed.track))
    for sight in visitors:
        if sight.in_picture():
            shine(canvas.image, sight, light)
    truths = find_truth(canvas.marks, visitors)
    image = weather(canvas.image, rng, infrared, light.dark)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    sx, sy = size[0] / width, size[1] / height
    rows = [(t.box[0] * sx, t.box[1] * sy, t.box[2] * sx, t.box[3] * sy, t.label) for t in truths]
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 5)
    big = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) >= MIN_SIDE_PX
    return image, boxes[big]


# --------------------------------------------------------------------------- scripted clips


@dataclass(frozen=True)
class Stop:
    """Where an actor is at a time; between stops it moves smoothly."""

    t: float
    x: float
    y: float


@dataclass(frozen=True)
class Actor:
    """Someone with a script."""

    track: int
    stops: tuple[Stop, ...]
    model: Callable[[float, float], Thing]  # (metres walked, speed) -> shape
    heading: float | None = None  # fixed, for what reverses
    idle: float = 0.0  # heading while it has not moved yet

    def at(self, t: float) -> Placed | None:
        """Where it is, or nothing before its first and after its last stop."""
        if not self.stops[0].t <= t <= self.stops[-1].t:
            return None
        x, y, gone = self.place(t)
        x0, y0, _ = self.place(max(self.stops[0].t, t - 0.15))
        x1, y1, _ = self.place(min(self.stops[-1].t, t + 0.15))
        dx, dy = x1 - x0, y1 - y0
        speed = math.hypot(dx, dy) / 0.3
        heading = self.heading
        if heading is None:
            heading = math.atan2(dy, dx) if speed > 0.08 else self.facing(t)
        return Placed(self.model(gone, speed), x, y, heading, self.track)

    def facing(self, t: float) -> float:
        """The way it last moved before a time."""
        heading = self.idle
        for a, b in pairwise(self.stops):
            if a.t <= t and math.hypot(b.x - a.x, b.y - a.y) > 0.3 and b.t <= t + 0.2:
                x0, y0, _ = self.place(b.t - 0.4)
                heading = math.atan2(b.y - y0, b.x - x0)
        return heading

    def place(self, t: float) -> tuple[float, float, float]:
        """Position and metres travelled: a Hermite curve through the stops."""
        gone = 0.0
        for i, (a, b) in enumerate(pairwise(self.stops)):
            span = b.t - a.t
            if t > b.t:
                gone += math.hypot(b.x - a.x, b.y - a.y)
                continue
            s = (t - a.t) / span
            ma, mb = self.slope(i), self.slope(i + 1)
            h0, h1 = 2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s
            h2, h3 = -2 * s**3 + 3 * s**2, s**3 - s**2
            x = h0 * a.x + h1 * span * ma[0] + h2 * b.x + h3 * span * mb[0]
            y = h0 * a.y + h1 * span * ma[1] + h2 * b.y + h3 * span * mb[1]
            return x, y, gone + math.hypot(x - a.x, y - a.y)
        last = self.stops[-1]
        return last.x, last.y, gone

    def slope(self, i: int) -> tuple[float, float]:
        """Speed at a stop: zero beside a halt, else between its neighbours."""
        stops = self.stops
        if i == 0 or i == len(stops) - 1:
            j = max(1, i)
            a, b = stops[j - 1], stops[j]
            return (b.x - a.x) / (b.t - a.t), (b.y - a.y) / (b.t - a.t)
        a, b, c = stops[i - 1], stops[i], stops[i + 1]
        if math.hypot(b.x - a.x, b.y - a.y) < 0.2 or math.hypot(c.x - b.x, c.y - b.y) < 0.2:
            return 0.0, 0.0
        return (c.x - a.x) / (c.t - a.t), (c.y - a.y) / (c.t - a.t)


def solid_actor(
    track: int, thing: Thing, stops: Sequence[tuple[float, float, float]], **more: float
) -> Actor:
    """A vehicle: its shape never changes."""
    return Actor(track, tuple(Stop(*s) for s in stops), lambda gone, speed: thing, **more)


def walker(
    track: int,
    looks: Looks,
    stops: Sequence[tuple[float, float, float]],
    rest: str = "stand",
    **more: float,
) -> Actor:
    """A person who walks between stops and rests at them."""

    def model(gone: float, speed: float) -> Thing:
        if speed < 0.15:
            return make_person(looks, 0.0, rest)
        return make_person(looks, gone * 2.0 * math.pi / 1.45, "walk")

    return Actor(track, tuple(Stop(*s) for s in stops), model, **more)


def rider(
    track: int, looks: Looks, gait: str, stops: Sequence[tuple[float, float, float]]
) -> Actor:
    """A person on a two-wheeler."""
    moved = [(t, x, y - 0.03) for t, x, y in stops]
    return Actor(
        track,
        tuple(Stop(*s) for s in moved),
        lambda gone, speed: make_person(looks, gone * 1.6, gait),
    )


@dataclass(frozen=True)
class Scenario:
    """A place, a camera and a script."""

    layout: Layout
    camera: Camera
    light: Light
    actors: tuple[Actor, ...]
    period: float


def demo_scenario(width: int, height: int, seed: int = 0) -> Scenario:
    """The clip of the demo: 60 s, then it begins again.

    A person is in the unloading point from 1.2 s on; a car crosses the exit line at 4.8 s; one
    stops at pump 1 from 8 s to 36 s; a tanker unloads from 27 s to 51 s.
    """
    rng = np.random.default_rng(1000 + seed)
    layout = demo_layout(seed)
    camera = Camera.make(width, height, 5.3, 20.0, 0.0, 0.0, 0.85)
    sun = np.array([-0.45, -0.35, 0.82])
    light = Light(
        sun / np.linalg.norm(sun), 0.62, 0.45, 1.0, (1.0, 1.0, 1.02), np.zeros((0, 4)), 0.42, False
    )
    worker, driver = make_looks(rng, vest=True), make_looks(rng, vest=True)
    guest, passer, cyclist, biker = (make_looks(rng, vest=False) for _ in range(4))
    lane = 22.6
    actors = [
        walker(
            1,
            worker,
            [
                (0.0, 2.6, 6.9),
                (2.6, 3.2, 10.4),
                (9.0, 3.2, 10.4),
                (12.5, 5.6, 10.8),
                (15.5, 5.6, 10.8),
                (21.0, 3.2, 6.0),
            ],
            idle=1.5,
        ),
        solid_actor(2, make_car(rng, "sedan"), [(0.5, -19.5, lane), (8.5, 19.5, lane)]),
        solid_actor(
            3,
            make_car(rng, "hatch"),
            [
                (4.0, -14.5, 14.4),
                (6.5, -8.0, 14.4),
                (8.2, -5.6, 14.4),
                (36.0, -5.6, 14.4),
                (38.5, -2.2, 15.2),
                (40.5, -0.4, 18.4),
                (42.5, 3.0, 21.8),
                (44.5, 9.5, lane),
                (47.0, 20.0, lane),
            ],
        ),
        walker(
            4,
            guest,
            [
                (11.0, -5.0, 13.0),
                (12.5, -6.9, 12.8),
                (33.0, -6.9, 12.8),
                (34.5, -5.0, 13.0),
            ],
            rest="reach",
            idle=math.pi,
        ),
        solid_actor(
            5,
            make_truck(rng, "tanker"),
            [
                (21.0, 18.4, 14.6),
                (24.5, 10.5, 14.6),
                (27.0, 7.2, 14.6),
                (51.0, 7.2, 14.6),
                (54.0, 11.5, 14.6),
                (57.0, 19.0, 14.6),
            ],
            heading=math.pi,
        ),
        walker(
            6,
            driver,
            [(30.0, 2.6, 12.6), (33.0, 6.0, 11.6), (44.0, 6.0, 11.6), (48.0, 2.6, 12.6)],
            rest="reach",
            idle=-0.3,
        ),
        solid_actor(7, make_car(rng, "suv"), [(15.0, -19.5, 24.4), (23.5, 20.0, 24.4)]),
        solid_actor(
            8, make_two_wheeler(rng, MOTORCYCLE), [(19.5, -18.0, 21.4), (25.5, 18.0, 21.4)]
        ),
        rider(9, biker, "ride", [(19.5, -18.0, 21.4), (25.5, 18.0, 21.4)]),
        solid_actor(10, make_bus(rng), [(46.5, -25.0, 24.6), (56.5, 25.0, 24.6)]),
        walker(11, passer, [(34.0, 7.6, 7.8), (45.0, -7.6, 7.8)]),
        solid_actor(12, make_two_wheeler(rng, BICYCLE), [(9.5, -18.0, 21.2), (16.0, 18.0, 21.2)]),
        rider(13, cyclist, "cycle", [(9.5, -18.0, 21.2), (16.0, 18.0, 21.2)]),
        solid_actor(14, make_car(rng, "sedan"), [(51.0, -19.5, 21.9), (59.5, 19.5, 21.9)]),
    ]
    return Scenario(layout, camera, light, tuple(actors), 60.0)


SCENARIOS: dict[str, Callable[[int, int, int], Scenario]] = {"demo": demo_scenario}


@dataclass(frozen=True)
class Cutout:
    """A piece of the still background that can be laid over what moves behind it."""

    sight: Sight
    x: int
    y: int
    image: Picture
    mask: Picture


class Stage:
    """Draws the frames of a scenario over a background that is rendered once."""

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        self.scenario = scenario
        camera, light = scenario.camera, scenario.light
        rng = np.random.default_rng(seed)
        sights = [Sight(p, camera) for p in scenario.layout.statics]
        sights = [s for s in sights if s.in_picture()]
        blank = np.zeros((camera.height, camera.width), np.uint8)
        canvas = Canvas(draw_ground(camera, scenario.layout, light, rng), blank.copy())
        for sight in sights:
            if sight.placed.thing.tall > 0.3:
                cast_shadow(canvas.image, sight, light)
        self.cutouts: dict[int, Cutout] = {}
        order = back_to_front(sights)
        for number, sight in enumerate(order, 1):
            sight.paint(canvas, light, number)
        for number, sight in enumerate(order, 1):
            x0, y0 = (max(0, math.floor(v) - 1) for v in sight.box[:2])
            x1 = min(camera.width, math.ceil(sight.box[2]) + 2)
            y1 = min(camera.height, math.ceil(sight.box[3]) + 2)
            # only what no nearer one hides: laid over again it must not cover its neighbours
            mask = np.where(canvas.marks[y0:y1, x0:x1] == number, 255, 0).astype(np.uint8)
            image = canvas.image[y0:y1, x0:x1].copy()
            self.cutouts[id(sight)] = Cutout(sight, x0, y0, image, mask)
        self.background = canvas.image
        grain = rng.normal(0.0, 1.6, (camera.height + 64, camera.width + 64))
        self.brighter = cv2.merge([np.clip(grain, 0, 255).astype(np.uint8)] * 3)
        self.darker = cv2.merge([np.clip(-grain, 0, 255).astype(np.uint8)] * 3)
        self.rng = rng

    def frame(self, t: float) -> tuple[Picture, list[Truth]]:
        """The picture at a time and what it shows."""
        camera, light = self.scenario.camera, self.scenario.light
        canvas = Canvas(self.background.copy(), np.zeros((camera.height, camera.width), np.uint8))
        moving = []
        for actor in self.scenario.actors:
            placed = actor.at(t % self.scenario.period)
            if placed is not None:
                sight = Sight(placed, camera)
                if sight.in_picture():
                    moving.append(sight)
        for sight in moving:
            cast_shadow(canvas.image, sight, light)
        near = [
            c.sight
            for c in self.cutouts.values()
            if any(c.sight.touches(sight, 60.0) for sight in moving)
        ]
        for sight in back_to_front(near + moving):
            cutout = self.cutouts.get(id(sight))
            if cutout is None:
                sight.paint(canvas, light, sight.placed.track)
                continue
            rows = slice(cutout.y, cutout.y + cutout.mask.shape[0])
            columns = slice(cutout.x, cutout.x + cutout.mask.shape[1])
            cv2.copyTo(cutout.image, cutout.mask, canvas.image[rows, columns])
            canvas.marks[rows, columns][cutout.mask > 0] = 0
        for sight in moving:
            shine(canvas.image, sight, light)
        truths = find_truth(canvas.marks, moving)
        dx, dy = (int(n) for n in self.rng.integers(0, 64, 2))
        size = (slice(dy, dy + camera.height), slice(dx, dx + camera.width))
        image = cv2.subtract(cv2.add(canvas.image, self.brighter[size]), self.darker[size])
        return image.astype(np.uint8), truths


def layout_of(scenario: Scenario) -> dict[str, Any]:
    """Zones and lines in picture coordinates 0..1, as tasks want them."""
    camera = scenario.camera
    zones = {}
    for name, outline in scenario.layout.zones.items():
        shape = camera.polygon(np.column_stack([outline, np.zeros(len(outline))]))
        if shape is None:
            continue
        share = np.clip(shape / (camera.width, camera.height), 0.0, 1.0)
        zones[name] = [[round(float(x), 4), round(float(y), 4)] for x, y in share]
    lines = {}
    for name, ends in scenario.layout.lines.items():
        uv, _ = camera.see(np.column_stack([ends, np.zeros(len(ends))]))
        share = np.clip(uv / (camera.width, camera.height), 0.0, 1.0)
        lines[name] = [[round(float(x), 4), round(float(y), 4)] for x, y in share]
    return {"zones": zones, "lines": lines, "labels": list(LABELS), "period_s": scenario.period}


def write_clip(
    out: Path,
    scenario: Scenario,
    seconds: float,
    fps: int,
    gop: float,
    seed: int,
    truth: Path | None,
) -> float:
    """Encodes a scenario as H.264 and writes its truth as JSON lines; gives the seconds it took."""
    began = time.monotonic()
    stage = Stage(scenario, seed)
    total = round(seconds * fps)
    every = max(1, round(gop * fps))
    lines = truth.open("w", encoding="utf-8") if truth else None
    try:
        with av.open(str(out), "w") as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height = scenario.camera.width, scenario.camera.height
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, fps)
            stream.codec_context.gop_size = every
            stream.codec_context.max_b_frames = 0
            stream.codec_context.thread_count = 1
            stream.options = {
                "preset": "veryfast",
                "crf": "23",
                "x264-params": f"keyint={every}:min-keyint={every}:scenecut=0:bframes=0",
            }
            for i in range(total):
                image, truths = stage.frame(i / fps)
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts = i
                container.mux(stream.encode(frame))
                if lines:
                    objects = [
                        {
                            "track": t.track,
                            "class": LABELS[t.label],
                            "box": [round(v, 1) for v in t.box],
                            "world": [round(t.x, 2), round(t.y, 2)],
                        }
                        for t in truths
                    ]
                    row = {"frame": i, "t_ms": round(1000 * i / fps), "objects": objects}
                    lines.write(json.dumps(row) + "\n")
                if i % (5 * fps) == 0:
                    print(f"clip: {i}/{total} frames", file=sys.stderr)
            container.mux(stream.encode(None))
    finally:
        if lines:
            lines.close()
    return time.monotonic() - began


def write_sheet(out: Path, first: int, count: int) -> None:
    """Draws sample pictures with their boxes on one sheet, to be looked at."""
    cells = []
    for seed in range(first, first + count):
        image, boxes = random_sample(seed, (640, 360))
        for x0, y0, x1, y1, label in boxes:
            corner = (int(x0), int(y0))
            cv2.rectangle(image, corner, (int(x1), int(y1)), (0, 255, 0), 1)
            cv2.putText(
                image, LABELS[int(label)][:3], corner, cv2.FONT_HERSHEY_PLAIN, 0.8, (0, 255, 255), 1
            )
        cells.append(image)
    while len(cells) % 3:
        cells.append(np.zeros_like(cells[0]))
    sheet = np.vstack([np.hstack(cells[i : i + 3]) for i in range(0, len(cells), 3)])
    cv2.imwrite(str(out), sheet)


def parse_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT, both even as H.264 wants them."""
    width, _, height = text.partition("x")
    size = int(width), int(height)
    if size[0] < 64 or size[1] < 64 or size[0] % 2 or size[1] % 2:
        raise argparse.ArgumentTypeError(f"{text}: want even numbers of at least 64, as 1280x720")
    return size


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Renders gas-station scenes with ground truth.")
    commands = parser.add_subparsers(dest="command", required=True)
    clip = commands.add_parser("clip", help="write a scripted clip")
    clip.add_argument("--out", type=Path, required=True)
    clip.add_argument("--seconds", type=float, default=60.0)
    clip.add_argument("--fps", type=int, default=12)
    clip.add_argument("--gop", type=float, default=2.0, help="seconds between key frames")
    clip.add_argument("--truth", type=Path, help="ground truth as JSON lines")
    layout = commands.add_parser("layout", help="print zones and lines in picture coordinates")
    layout.add_argument("--json", action="store_true", help="on one line")
    for command in (clip, layout):
        command.add_argument("--scenario", choices=sorted(SCENARIOS), default="demo")
        command.add_argument("--size", type=parse_size, default=(1280, 720))
        command.add_argument("--seed", type=int, default=0)
    sheet = commands.add_parser("sheet", help="draw random samples with their boxes")
    sheet.add_argument("--out", type=Path, required=True)
    sheet.add_argument("--seed", type=int, default=0)
    sheet.add_argument("--count", type=int, default=9)
    asked = parser.parse_args(arguments)
    if asked.command == "sheet":
        write_sheet(asked.out, asked.seed, asked.count)
        return 0
    scenario = SCENARIOS[asked.scenario](asked.size[0], asked.size[1], asked.seed)
    if asked.command == "layout":
        print(json.dumps(layout_of(scenario), indent=None if asked.json else 2))
        return 0
    took = write_clip(
        asked.out, scenario, asked.seconds, asked.fps, asked.gop, asked.seed, asked.truth
    )
    print(f"clip: {asked.out} in {took:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
