"""Rendered scenes with long quiet stretches and visits of known length, each from a seed.

Here: the script of a scene, what its weather does to the picture, the encoded file beside the
truth, the task that watches it. Not here: drawing (models/scenes.py), other encodings
(encodings.py).

A scene is a forecourt with parked cars. For most of the time nothing moves; then people and
vehicles come for 0.5 to 20 s each. Seeds go through the weathers in turn, so that any few of them
differ.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from models import scenes, solids
from wire import specs

Picture = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 640, 360
GOPS_S = (1.0, 2.0, 2.0, 4.0)
WEATHERS = ("still", "clock", "drift", "rain", "night", "step")
CLASSES = ["person", "car", "truck", "bus", "motorcycle", "bicycle"]
SETTLED_S = 1.0
SEEN_BY = "present"
"""The rule that sees each object wherever it is."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A thing that came, from its first visible moment to its last."""

    label: str
    first_s: float
    last_s: float

    @property
    def length_s(self) -> float:
        return self.last_s - self.first_s


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene before it is drawn. `period` of its script is its length in seconds."""

    seed: int
    weather: str
    fps: int
    gop_s: float
    script: scenes.Scenario

    @property
    def name(self) -> str:
        return f"scene-{self.seed:02d}-{self.weather}"


def scene(seed: int) -> Scene:
    """The scene of a seed: the same for everybody."""
    rng = np.random.default_rng([4, seed])
    weather = WEATHERS[seed % len(WEATHERS)]
    camera = scenes.Camera.make(
        WIDTH, HEIGHT, rng.uniform(4.8, 5.8), rng.uniform(18.0, 22.0), rng.uniform(-5.0, 5.0)
    )
    layout = scenes.demo_layout(seed)
    _park(layout, rng)
    light = scenes.make_light(rng, "night" if weather == "night" else "day", layout.lamps)
    actors, length_s = _actors(rng)
    script = scenes.Scenario(layout, camera, light, tuple(actors), length_s)
    # One more each time that all weathers have had a turn: each meets each.
    fps, gop_s = int(rng.choice([10, 12, 15])), GOPS_S[seed // len(WEATHERS) % len(GOPS_S)]
    return Scene(seed, weather, fps, gop_s, script)


def task(made: Scene) -> specs.Task:
    """The task that watches a scene; three of four are patient: they may miss what is below 2 s."""
    layout = scenes.layout_of(made.script)
    vehicles = ["car", "truck", "bus"]
    patient = made.seed // 3 % 4 != 0
    least = {"min_visit": "2s" if patient else "1s"}
    dwell = "2s" if patient else "1s"
    rules = [
        {"name": SEEN_BY, "when": {"class": CLASSES}, "severity": "info", **least},
        {"name": "at-unloading", "when": {"class": "person", "in": "unload"}, "for": dwell},
        {"name": "at-pump", "when": {"class": vehicles, "in": "pump-1"}, "for": "3s"},
        {"name": "drive-out", "when": {"class": vehicles, "crosses": "exit"}, **least},
        {
            "name": "unloading-full",
            "when": {"count": {"class": CLASSES, "in": "unload"}, "at_least": 2},
            "for": dwell,
        },
    ]
    if not patient:
        # Whoever is there for a moment interrupts it: this one wants at least 1 s to be seen.
        empty = {"count": {"class": CLASSES, "in": "unload"}, "at_most": 0}
        rules.append({"name": "unloading-empty", "when": empty, "for": "4s", "grace": "2s"})
    made_task = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": "watch", "station": "benchmark"},
            "spec": {
                "camera": made.name,
                "fps": 5,
                "model": {"name": "forecourt-nano", "classes": CLASSES},
                "zones": {name: layout["zones"][name] for name in ("unload", "pump-1")},
                "lines": layout["lines"],
                "rules": rules,
            },
        }
    )
    assert isinstance(made_task, specs.Task)
    return made_task


def rendered(made: Scene, folder: Path) -> tuple[Path, list[Visit]]:
    """The scene's file and its true visits; drawn only if this recipe was not drawn before."""
    path = folder / f"{made.name}-{_recipe()}.mp4"
    truth = path.with_suffix(".json")
    if not truth.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{made.seed}.draft.mp4")
        found = _render(made, draft)
        draft.rename(path)
        # Written last: where it lies, the recording is whole.
        truth.write_text(json.dumps([[v.label, v.first_s, v.last_s] for v in found]))
    return path, [Visit(*row) for row in json.loads(truth.read_text())]


def still_ms(made: Scene, truth: Sequence[Visit]) -> list[tuple[int, int]]:
    """When nobody comes or goes in a scene, in milliseconds; a little less, to be sure."""
    ends = [0.0, *(visit.last_s for visit in truth)]
    stretches = (
        (end_s, min((v.first_s for v in truth if v.last_s > end_s), default=made.script.period))
        for end_s in ends
    )
    return [
        (round((first_s + SETTLED_S) * 1000), round((last_s - SETTLED_S) * 1000))
        for first_s, last_s in stretches
        if last_s - first_s > 2 * SETTLED_S
    ]


def _recipe() -> str:
    """A name for what draws: other code, other recordings."""
    sources = [Path(file) for file in (__file__, scenes.__file__, solids.__file__)]
    return hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()[:10]


# --- who comes ---------------------------------------------------------------------------------


def _park(layout: scenes.Layout, rng: np.random.Generator) -> None:
    """Cars that stand there all the time."""
    places = [(-8.5, 24.9), (-3.5, 25.0), (7.5, 25.1), (12.0, 24.8), (8.2, 15.6)]
    for place in rng.permutation(len(places))[: int(rng.integers(1, 4))]:
        x, y = places[int(place)]
        heading = float(rng.normal(0.0, 0.05))
        layout.statics.append(solids.Placed(solids.make_car(rng), x, y, heading))


def _actors(rng: np.random.Generator) -> tuple[list[scenes.Actor], float]:
    """Two or three busy stretches, with 10 to 30 s of quiet before and between; and the end."""
    actors: list[scenes.Actor] = []
    at_s = rng.uniform(10.0, 25.0)
    for _ in range(int(rng.integers(2, 4))):
        comers: list[_Comer] = [_passes, _peeks, _fuels, _unloads, _walks_by, _rides_by]
        last_s = at_s
        for number in rng.permutation(len(comers))[: int(rng.integers(1, 4))]:
            came = comers[int(number)](rng, len(actors) + 1, at_s + rng.uniform(0.0, 4.0))
            actors.append(came)
            last_s = max(last_s, came.stops[-1].t)
        at_s = last_s + rng.uniform(10.0, 30.0)
    return actors, math.ceil(min(at_s, 100.0))


_Comer = Callable[[np.random.Generator, int, float], scenes.Actor]


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform: as many short ones as long ones."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _edge(y: float, length: float) -> float:
    """How far aside something at a distance is surely out of the picture."""
    return 0.72 * y + length


def _passes(rng: np.random.Generator, track: int, at_s: float) -> scenes.Actor:
    """A vehicle drives by, near or far, fast or slow."""
    y = float(rng.choice([10.8, 21.6, 22.8]))
    make = (solids.make_car, solids.make_truck, solids.make_bus)[int(rng.integers(3))]
    if y < 20.0:
        make = solids.make_car
    thing = make(rng)
    side = float(rng.choice([-1.0, 1.0])) * _edge(y, 2 * thing.half_length)
    return scenes.solid_actor(
        track, thing, [(at_s, -side, y), (at_s + _between(rng, 1.2, 9.0), side, y)]
    )


def _rides_by(rng: np.random.Generator, track: int, at_s: float) -> scenes.Actor:
    """A motorcycle or bicycle without its rider, who would be one more."""
    label = int(rng.choice([solids.MOTORCYCLE, solids.BICYCLE]))
    y = float(rng.uniform(18.5, 20.5))
    side = float(rng.choice([-1.0, 1.0])) * _edge(y, 2.0)
    return scenes.solid_actor(
        track,
        solids.make_two_wheeler(rng, label),
        [(at_s, -side, y), (at_s + _between(rng, 2.0, 8.0), side, y)],
    )


def _peeks(rng: np.random.Generator, track: int, at_s: float) -> scenes.Actor:
    """A person comes in from below and is gone again."""
    x, deep, long_s = rng.uniform(-2.5, 3.5), rng.uniform(3.5, 6.0), _between(rng, 1.0, 5.0)
    stops = [(at_s, x, 3.0), (at_s + long_s / 2, x + 0.4, 3.0 + deep), (at_s + long_s, x, 3.0)]
    return scenes.walker(track, solids.make_looks(rng), stops)


def _walks_by(rng: np.random.Generator, track: int, at_s: float) -> scenes.Actor:
    """A person walks across, or runs."""
    y = float(rng.uniform(8.5, 20.0))
    side = float(rng.choice([-1.0, 1.0])) * _edge(y, 0.5)
    long_s = 2 * abs(side) / _between(rng, 1.2, 6.0)
    stops = [(at_s, -side, y), (at_s + long_s, side, y)]
    return scenes.walker(track, solids.make_looks(rng), stops)


def _unloads(rng: np.random.Generator, track: int, at_s: float) -> scenes.Actor:
    """A person goes to the unloading point, stays, and leaves."""
    x, y, stay_s = rng.uniform(2.0, 5.0), rng.uniform(9.5, 12.5), _between(rng, 0.5, 20.0)
    way_s = (y - 3.0) / rng.uniform(1.3, 2.5)
    stops = [
        (at_s, x - 1.0, 3.0),
        (at_s + way_s, x, y),
        (at_s + way_s + stay_s, x, y),
        (at_s + 2 * way_s + stay_s, x + 0.5, 3.0),
    ]
    return scenes.walker(track, solids.make_looks(rng, vest=True), stops, rest="reach")


def _fuels(rng: np.random.Generator, track: int, at_s: float) -> scenes.Actor:
    """A car drives to the pump, stands, and drives on."""
    stay_s = _between(rng, 1.0, 20.0)
    gone_s = at_s + 4.2 + stay_s
    stops = [
        (at_s, -15.5, 14.4),
        (at_s + 2.5, -8.0, 14.4),
        (at_s + 4.2, -5.6, 14.4),
        (gone_s, -5.6, 14.4),
        (gone_s + 2.5, -2.2, 15.2),
        (gone_s + 4.5, -0.4, 18.4),
        (gone_s + 6.5, 3.0, 21.8),
        (gone_s + 8.5, 9.5, 22.6),
        (gone_s + 11.0, 22.0, 22.6),
    ]
    return scenes.solid_actor(track, solids.make_car(rng), stops)


# --- the file ----------------------------------------------------------------------------------


def _render(made: Scene, path: Path) -> list[Visit]:
    stage = scenes.Stage(made.script, made.seed)
    spoil = _weather(made)
    seen: dict[int, tuple[str, float, float]] = {}
    with av.open(str(path), "w") as container:
        every = round(made.gop_s * made.fps)
        track = container.add_stream(
            "libx264",
            rate=made.fps,
            options={
                "preset": "veryfast", "crf": "23", "g": str(every), "bf": "0", "sc_threshold": "0",
            },
        )  # fmt: skip
        assert isinstance(track, VideoStream)
        track.width, track.height, track.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        track.codec_context.time_base = Fraction(1, made.fps)
        track.codec_context.thread_count = 1
        for number in range(round(made.script.period * made.fps)):
            t_s = number / made.fps
            image, truths = stage.frame(t_s)
            for truth in truths:
                label, first_s, _ = seen.get(
                    truth.track, (solids.LABELS[truth.label], round(t_s, 3), t_s)
                )
                seen[truth.track] = (label, first_s, round(t_s, 3))
            frame = av.VideoFrame.from_ndarray(spoil(image, t_s), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, made.fps)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return [Visit(*row) for row in seen.values()]


def _weather(made: Scene) -> Callable[[Picture, float], Picture]:
    """What light, rain, the sensor and the camera's clock do to a picture at a time."""
    rng = np.random.default_rng([5, made.seed])
    period_s, depth = rng.uniform(20.0, 60.0), rng.uniform(0.06, 0.15)
    steps_s = sorted(rng.uniform(2.0, made.script.period, 3))
    drops = int(rng.integers(40, 120))
    grain = _grain(rng, 3.0)

    def spoil(image: Picture, t_s: float) -> Picture:
        match made.weather:
            case "drift":
                return _brighter(image, 1.0 + depth * math.sin(2 * math.pi * t_s / period_s))
            case "step":
                # A lamp goes on and off, within a third of a second.
                turned = sum(min(1.0, max(0.0, (t_s - at) / 0.3)) * (-1) ** i
                             for i, at in enumerate(steps_s))  # fmt: skip
                return _brighter(image, 0.88 + 0.2 * turned)
            case "rain":
                return _rained(image, rng, drops)
            case "night":
                return next(grain)(image)
            case "clock":
                return _clocked(image, t_s)
        return image

    return spoil


def _brighter(image: Picture, gain: float) -> Picture:
    return np.asarray(cv2.convertScaleAbs(image, alpha=gain), dtype=np.uint8)


def _clocked(image: Picture, t_s: float) -> Picture:
    text = f"2026-03-01 12:{int(t_s) // 60:02d}:{int(t_s) % 60:02d}"
    cv2.rectangle(image, (6, 6), (226, 30), (0, 0, 0), cv2.FILLED)
    cv2.putText(
        image, text, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA
    )
    return image


def _rained(image: Picture, rng: np.random.Generator, drops: int) -> Picture:
    streaks = np.zeros(image.shape[:2], np.uint8)
    for x, y, run, tone in rng.integers((0, 0, 4, 20), (WIDTH, HEIGHT, 18, 70), (drops, 4)):
        ends = (int(x), int(y)), (int(x + run // 5), int(y + run))
        cv2.line(streaks, *ends, (int(tone),), 1, cv2.LINE_AA)
    return np.asarray(cv2.add(image, cv2.merge([streaks] * 3)), dtype=np.uint8)


def _grain(rng: np.random.Generator, sigma: float) -> Iterator[Callable[[Picture], Picture]]:
    """A sensor's noise: one large tile, laid elsewhere each time."""
    tile = rng.normal(0.0, sigma, (HEIGHT + 128, WIDTH + 128))
    brighter, darker = (
        cv2.merge([np.clip(part, 0, 255).astype(np.uint8)] * 3) for part in (tile, -tile)
    )
    while True:
        dx, dy = (int(n) for n in rng.integers(0, 128, 2))
        size = (slice(dy, dy + HEIGHT), slice(dx, dx + WIDTH))
        plus, minus = brighter[size], darker[size]
        yield lambda image, plus=plus, minus=minus: cv2.subtract(  # type: ignore[misc]
            cv2.add(image, plus), minus
        )
