"""Pictures for camera health: a station's day, one picture a minute, and faults put into pictures.

Here: what a camera makes of a rendered forecourt from midnight to midnight, and what becomes of a
picture when something is wrong with the camera. Not here: judging (edge/vision/health.py), figures
(health.py).

All pictures are grey, height × width; everything is drawn from a seed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models import scenes

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Random = np.random.Generator

MINUTES = 24 * 60
SIZE = (640, 360)


@dataclass(frozen=True)
class _Crowd:
    """The same forecourt with the same visitors, by day and by lamplight."""

    day: Floats
    night: Floats


def day(seed: int, *, crowds: int = 24, every: int = 1) -> Iterator[Grey]:
    """A day from midnight on: dawn, sun and clouds, showers, fog, dusk, infrared, headlights.

    `crowds` is how many different sets of visitors and suns come and go; `every` so many minutes
    there is a picture.
    """
    rng = np.random.default_rng(seed)
    drawn = _crowds(rng, seed, crowds)
    rain = [(int(start), int(start + rng.integers(30, 150))) for start in rng.integers(0, 1290, 4)]
    fog_until = int(rng.integers(360, 540))
    infrared_after = rng.uniform(0.1, 0.3)
    for minute in range(0, MINUTES, every):
        sun = float(np.clip(0.5 - 0.75 * math.cos(2 * math.pi * minute / MINUTES), 0, 1))
        crowd = drawn[int(rng.integers(len(drawn)))]
        light = crowd.day * sun * rng.uniform(0.7, 1.0) + crowd.night * (1 - sun)
        raining = any(start <= minute < end for start, end in rain)
        infrared = sun < infrared_after
        if infrared:
            light = _lit_by_lens(light)
        if sun < 0.4 and rng.random() < 0.3:
            light = light + _headlights(rng, light.shape)
        if 240 < minute < fog_until:
            light = cv2.GaussianBlur(light * 0.45 + 70, (0, 0), 1.0).astype(np.float32)
        if raining:
            light = cv2.GaussianBlur(light, (0, 0), 0.7) + _streaks(rng, light.shape)
        # Auto exposure reaches for a mean of 110, and is never quite there.
        gain = np.clip(110 / max(float(light.mean()), 1), 0.6, 2.5) * rng.uniform(0.85, 1.15)
        noise = (1.0 if sun > 0.5 else 3.0) * max(1.0, gain)
        light = light * gain + noise * rng.standard_normal(light.shape, np.float32)
        yield _coded(_shaken(light, rng), int(rng.integers(35, 80)))


def _crowds(rng: Random, seed: int, count: int) -> list[_Crowd]:
    width, height = SIZE
    camera = scenes.random_camera(rng, width, height, like_demo=True)
    layout = scenes.demo_layout(seed)
    statics = [scenes.Sight(each, camera) for each in layout.statics]
    made = []
    for _ in range(count):
        taken = [s.placed.corners() for s in statics if s.placed.thing.tall > 0.3]
        there = scenes.random_visitors(rng, camera, layout, taken)
        visitors = [scenes.Sight(each, camera) for each in there]
        pictures = []
        for hour in ("day", "night"):
            light = scenes.make_light(rng, hour, layout.lamps)
            # The ground is the same ground, whoever stands on it.
            ground = scenes.draw_ground(camera, layout, light, np.random.default_rng(seed))
            canvas = scenes.Canvas(ground, np.zeros((height, width), np.uint8))
            shown = [each for each in statics + visitors if each.in_picture()]
            for sight in shown:
                if sight.placed.thing.tall > 0.3:
                    scenes.cast_shadow(canvas.image, sight, light)
            for sight in scenes.back_to_front(shown):
                sight.paint(canvas, light, max(0, sight.placed.track))
            for sight in visitors:
                if sight.in_picture():
                    scenes.shine(canvas.image, sight, light)
            pictures.append(cv2.cvtColor(canvas.image, cv2.COLOR_BGR2GRAY).astype(np.float32))
        made.append(_Crowd(pictures[0], pictures[1]))
    return made


def _lit_by_lens(light: Floats) -> Floats:
    """Infrared from around the lens: the middle and what is near are bright, the rest is not."""
    height, width = light.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away = ((x / width - 0.5) / 0.45) ** 2 + ((y / height - 0.65) / 0.5) ** 2
    return np.asarray((light - 8) * (0.5 + 2.0 * np.exp(-away)), np.float32)


def _headlights(rng: Random, shape: tuple[int, ...]) -> Floats:
    """Glare of a car that faces the camera."""
    height, width = shape
    x, y = rng.uniform(0, width), rng.uniform(0.3 * height, height)
    spread = rng.uniform(0.02, 0.12) * width
    apart = 1.5 * spread
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    glare = sum(
        np.exp(-((u - x - side * apart) ** 2 + (v - y) ** 2) / (2 * spread**2)) for side in (0, 1)
    )
    return np.asarray(glare * rng.uniform(200, 700), np.float32)


def _streaks(rng: Random, shape: tuple[int, ...]) -> Floats:
    """Rain in front of the lens, and drops on it."""
    height, width = shape
    drawn = np.zeros(shape, np.uint8)
    lean = rng.uniform(-0.3, 0.3)
    for _ in range(int(rng.integers(60, 400))):
        x, y, run = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(4, 24))
        end = (int(x + lean * run), y + run)
        cv2.line(drawn, (x, y), end, (int(rng.integers(25, 90)),), 1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 8))):
        at = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(drawn, at, int(rng.integers(4, 16)), (int(rng.integers(20, 60)),), -1)
    return np.asarray(cv2.GaussianBlur(drawn.astype(np.float32), (0, 0), 0.8), np.float32)


def _shaken(light: Floats, rng: Random) -> Floats:
    """A pole sways in the wind by a pixel or two."""
    move = np.array([[1, 0, rng.normal(0, 0.8)], [0, 1, rng.normal(0, 0.5)]], np.float32)
    size = (light.shape[1], light.shape[0])
    return cv2.warpAffine(light, move, size, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def _coded(light: Floats, quality: int) -> Grey:
    picture = np.clip(light, 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)


# --- what is wrong with a camera ---

Injure = Callable[[Grey, Random], Grey]


def _grainy(light: npt.NDArray[np.floating], rng: Random, sigma: float = 1.5) -> Grey:
    noisy = light + sigma * rng.standard_normal(light.shape, np.float32)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _flat(level: float, sigma: float) -> Injure:
    return lambda picture, rng: _grainy(np.full(picture.shape, level, np.float32), rng, sigma)


def _brightened(gain: float, lift: float) -> Injure:
    return lambda picture, rng: _grainy(picture.astype(np.float32) * gain + lift, rng)


def _defocused(part: float) -> Injure:
    """`part` of the picture's width is the blur's deviation."""
    return lambda picture, rng: _grainy(
        cv2.GaussianBlur(picture, (0, 0), part * picture.shape[1]).astype(np.float32), rng
    )


def _behind(level: float, texture: float, part: float = 1.0) -> Injure:
    """Something with a slight texture hangs before `part` of the picture."""

    def injure(picture: Grey, rng: Random) -> Grey:
        height, width = picture.shape
        coarse = rng.standard_normal((6, 8), np.float32)
        cloth = level + texture * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        hidden = np.zeros(picture.shape, np.float32)
        hidden[:, : round(part * width)] = 1
        hidden = cv2.GaussianBlur(hidden, (0, 0), width / 40).astype(np.float32)
        return _grainy(picture * (1 - hidden) + cloth * hidden, rng)

    return injure


def _bagged(picture: Grey, rng: Random) -> Grey:
    """A bag that lets light through."""
    soft = cv2.GaussianBlur(picture, (0, 0), picture.shape[1] / 25).astype(np.float32)
    return _grainy(soft * 0.4 + 100, rng)


def _sprayed(picture: Grey, rng: Random) -> Grey:
    """Paint, sprayed upon the glass."""
    height, width = picture.shape
    paint = np.zeros(picture.shape, np.float32)
    for _ in range(70):
        at = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(paint, at, int(rng.integers(width // 20, width // 6)), (1.0,), -1)
    paint = cv2.GaussianBlur(paint, (0, 0), width / 60).astype(np.float32)
    return _grainy(picture * (1 - paint) + 35 * paint, rng)


def _turned(across: float = 0, down: float = 0, degrees: float = 0) -> Injure:
    """Of the picture's width and height, and around its middle."""

    def injure(picture: Grey, rng: Random) -> Grey:
        height, width = picture.shape
        move = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        move[:, 2] += (across * width, down * height)
        turned = cv2.warpAffine(
            picture, move, (width, height), borderMode=cv2.BORDER_REFLECT_101
        ).astype(np.float32)
        return _grainy(turned, rng, 0.8)

    return injure


FAULTS: dict[str, dict[str, Injure]] = {
    "black": {"no light": _flat(4, 2), "no signal": _flat(16, 0)},
    "over-exposed": {"white": _flat(255, 0), "glare": _brightened(3, 140)},
    "blurred": {"slightly": _defocused(0.004), "much": _defocused(0.012)},
    "covered": {
        "cloth": _behind(70, 6),
        "light cloth": _behind(130, 10),
        "most of it": _behind(60, 6, 0.85),
        "bag": _bagged,
        "spray": _sprayed,
    },
    "moved": {
        "across 5 %": _turned(across=0.05),
        "across 10 %, down 5 %": _turned(0.1, 0.05),
        "across 30 %": _turned(across=0.3),
        "down 8 %": _turned(down=0.08),
        "rolled 10°": _turned(degrees=10),
        "across 5 %, rolled 5°": _turned(0.05, 0, 5),
        "rolled 25°": _turned(degrees=25),
    },
}
"""By fault, what may have happened."""
