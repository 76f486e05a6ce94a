"""The recordings that the video benchmarks measure, each made once and kept in `.bench/streams`.

The reference stream: a real still frame with noise, as x264 veryfast sends it at a constant
4 Mbit/s, 1080p25, a key frame every 50 pictures, no B-frames. Through it walks, now and then, a
real person: cut from another recording by its difference from the empty place. Where the assets
are missing both are rendered (models/scenes.py).

Here: what is shown when, how it is encoded, and which network finds it. Not here: measuring.
"""

import bisect
import hashlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import av.filter
import cv2
import numpy as np
import numpy.typing as npt
from av.container.output import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from benchmarks import recordings, stage
from edge.vision.manifest import Manifest, find
from wire import specs

Picture = npt.NDArray[np.uint8]
Visits = tuple[tuple[float, float], ...]
"""Who is there: from which second, for how many."""

WIDTH, HEIGHT, FPS, GOP = 1920, 1080, 25, 50
STILL = "videos/traffic_camera.mp4"
WALK = "videos/person-bicycle-car-detection.mp4"
MIN_VISIT_S = 2.0
"""The shortest visit that the tasks here must see: one GOP."""
_MADE_BY = 3
"""Raise it when pictures of the same recipe become others."""
_LENGTHS_S = (0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 3.2, 4.4)
_PAUSE_S = 5.3
"""Between visits; no multiple of a GOP's length, so that they begin anywhere in one."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the bytes of a stream: a part is encoded, and then repeated."""

    name: str
    part_s: float
    times: int
    visits: Visits
    """Within the part."""
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    noise: int = 6
    turned: int = 0
    """The GOP of the part with which each turn begins: so that cameras are not in step."""

    @property
    def seconds(self) -> float:
        """How long the stream is."""
        return self.part_s * self.times


_CONSTANT = {"b": "4M", "minrate": "4M", "maxrate": "4M", "bufsize": "4M"}
_ENCODERS: dict[str, dict[str, Any]] = {
    "reference": {"options": _CONSTANT},
    "bframes": {"options": {**_CONSTANT, "bf": "3"}},
    "refs4": {"options": {**_CONSTANT, "refs": "4"}},
    "h265": {"codec": "libx265", "options": {"b": "4M"}},
    "capped": {"options": {"crf": "26", "maxrate": "4M", "bufsize": "8M"}},
    "noise": {"options": _CONSTANT, "noise": 20},
}
VARIANTS = tuple(_ENCODERS)[1:]


def _of_all_lengths() -> Visits:
    """One visit of each length."""
    ends = itertools.accumulate((length + _PAUSE_S for length in _LENGTHS_S), initial=_PAUSE_S)
    return tuple(zip(ends, _LENGTHS_S, strict=False))


PART_S = 20.0
ACTIVITIES: dict[str, Visits] = {
    "idle": (),
    "mixed": ((9.0, 5.0),),  # three bursts of 5 s a minute, 25 % activity, from amid a GOP
    "always": ((0.0, PART_S),),
    "visits": _of_all_lengths(),
}


def recipe(
    activity: str, encoder: str = "reference", seconds: float = 60.0, turned: int = 0
) -> Recipe:
    """How a stream is made; it lasts for `seconds`, rounded up to whole parts of 20 s.

    `visits` shows each of its lengths once, however long that takes.
    """
    visits = ACTIVITIES[activity]
    part_s, times = PART_S, math.ceil(seconds / PART_S)
    if activity == "visits":
        part_s, times = float(math.ceil(sum(visits[-1]) + _PAUSE_S)), 1
    name = f"{encoder}-{activity}"
    return Recipe(name, part_s, times, visits, turned=turned, **_ENCODERS[encoder])


def stream(folder: Path, made: Recipe) -> Path:
    """The file of a recipe, made now if it does not lie in `folder` yet."""
    part = _file(folder, replace(made, times=1, turned=0))
    if not part.exists():
        part.parent.mkdir(parents=True, exist_ok=True)
        stage.say(f"making {made.name}")
        _encode(fresh := part.with_name(f"new-{part.name}"), made)
        fresh.replace(part)
    file = _file(folder, made)
    if not file.exists():
        _repeat(part, fresh := file.with_name(f"new-{file.name}"), made)
        fresh.replace(file)
    return file


def _file(folder: Path, made: Recipe) -> Path:
    drawn_by = "rendered" if _assets() is None else "filmed"
    told = repr((asdict(made), drawn_by, _MADE_BY, av.__version__))
    hashed = hashlib.sha256(told.encode()).hexdigest()[:10]
    return folder / "streams" / f"{made.name}-{made.seconds:g}s-{hashed}.mp4"


def task(camera: str = "c1") -> specs.Task:
    """What watches these streams: a person anywhere, at 5 looks a second."""
    rule = {
        "name": "person",
        "when": {"class": "person"},
        "for": 0,
        "min_visit": MIN_VISIT_S,
        "severity": "warning",
    }
    found = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": camera, "station": "bench"},
            "spec": {
                "camera": camera,
                "fps": 5,
                "model": {"name": model().name, "min_score": 0.35},
                "rules": [rule],
            },
        }
    )
    assert isinstance(found, specs.Task)
    return found


def model() -> Manifest:
    """A network that finds the person: YOLOX-nano the real one, our own the rendered one."""
    name = "forecourt-nano" if _assets() is None else "yolox-nano"
    return find([models_folder()], name)


def models_folder() -> Path:
    """Where it lies."""
    assets = _assets()
    return stage.ROOT / "models" if assets is None else assets / "models"


def _assets() -> Path | None:
    """The folder of the real material, if all that is needed of it is there."""
    folder = recordings.assets()
    needed = (STILL, WALK, "models/yolox_nano.onnx")
    return folder if folder and all((folder / name).is_file() for name in needed) else None


# --- what is shown -----------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _scene() -> "_Filmed | _Rendered":
    assets = _assets()
    if assets is None:
        stage.say("no assets (set FORECOURT_ASSETS): the streams are rendered")
        return _Rendered()
    return _Filmed(assets)


def _pictures(file: Path, from_s: float, to_s: float) -> Iterator[Picture]:
    with av.open(str(file)) as container:
        for picture in container.decode(video=0):
            if picture.time is not None and picture.time > to_s:
                return
            if picture.time is not None and picture.time >= from_s:
                yield np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)


class _Filmed:
    """A motorway that stands still, and a man who walks over it."""

    TALL = 340
    SPEED = 140
    """Pixels a second."""
    ROOM = 700
    """Pixels to walk to and fro: before the crash barrier, against which he is hard to see."""
    FOOT = 940
    """The row on which he walks."""

    def __init__(self, assets: Path) -> None:
        still = next(_pictures(assets / STILL, 10.0, 11.0))
        wide = cv2.resize(still, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        self.still: Picture = np.asarray(wide, np.uint8)
        walk = _pictures(assets / WALK, 25.1, 26.9)
        self._steps = _cut_out([picture[:150, :172] for picture in walk], self.TALL)

    def at(self, since_s: float | None) -> Picture:
        """A picture; `since_s` is how long somebody has been there, None: nobody is."""
        if since_s is None:
            return self.still
        image, cover = self._steps[int(since_s * 12) % len(self._steps)]
        room = self.ROOM
        there, back = divmod((since_s * self.SPEED) % (2 * room), room)
        left = 100 + int(room - back if there else back)
        if there:
            image, cover = image[:, ::-1], cover[:, ::-1]
        rows = slice(self.FOOT - image.shape[0], self.FOOT)
        columns = slice(left, left + image.shape[1])
        picture = self.still.copy()
        behind = picture[rows, columns]
        picture[rows, columns] = (behind + (image - behind.astype(np.float32)) * cover).astype(
            np.uint8
        )
        return picture


def _cut_out(
    pictures: list[Picture], tall: int
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """What moves in the pictures, cut along its outline and `tall` pixels high, step by step.

    Each is an image and how much of it covers what lies behind, 0..1.
    """
    empty = np.median(np.stack(pictures), axis=0).astype(np.uint8)
    steps = []
    for picture in pictures:
        moved = cv2.GaussianBlur(cv2.absdiff(picture, empty).max(axis=2), (3, 3), 0)
        mask = (moved > 14).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        x, y, width, height = (int(n) for n in stats[largest, :4])
        rows, columns = slice(y, y + height), slice(x, x + width)
        size = (max(1, round(width * tall / height)), tall)
        alpha = (labels[rows, columns] == largest).astype(np.float32)
        image = cv2.resize(picture[rows, columns], size, interpolation=cv2.INTER_CUBIC)
        cover = cv2.GaussianBlur(cv2.resize(alpha, size), (5, 5), 0)
        steps.append((image.astype(np.float32), np.asarray(cover[..., None], np.float32)))
    return steps


class _Rendered:
    """The demo's forecourt without its visitors, and one who walks over it."""

    def __init__(self) -> None:
        from models import scenes, solids  # only here, where there are no assets

        demo = scenes.demo_scenario(WIDTH, HEIGHT)
        looks = solids.make_looks(np.random.default_rng(3), vest=True)
        stops = [(turn * 12.0, 3.5 if turn % 2 else -3.5, 12.0) for turn in range(20)]
        walk = replace(demo, actors=(scenes.walker(1, looks, stops),), period=math.inf)
        self.still: Picture = scenes.Stage(replace(demo, actors=())).frame(0.0)[0]
        self._walk = scenes.Stage(walk)

    def at(self, since_s: float | None) -> Picture:
        """A picture; `since_s` is how long somebody has been there, None: nobody is."""
        return self.still if since_s is None else self._walk.frame(since_s)[0]


# --- how it is encoded -------------------------------------------------------------------------


def _encode(file: Path, made: Recipe) -> None:
    scene = _scene()
    noisy = _noise(made.noise)
    with av.open(str(file), "w") as container:
        options = {"preset": "veryfast", "g": str(GOP), "bf": "0", "sc_threshold": "0"}
        if made.codec == "libx265":
            options["x265-params"] = (
                f"keyint={GOP}:min-keyint={GOP}:scenecut=0:bframes=0:open-gop=0:log-level=error"
                ":vbv-maxrate=4000:vbv-bufsize=4000"
            )
        track = container.add_stream(made.codec, rate=FPS, options={**options, **made.options})
        assert isinstance(track, VideoStream)
        track.width, track.height, track.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        track.codec_context.time_base = Fraction(1, FPS)
        for number in range(round(made.part_s * FPS)):
            t_s = number / FPS
            frame = VideoFrame.from_ndarray(scene.at(_since_s(made.visits, t_s)), "bgr24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            noisy.push(frame)
            out = noisy.pull()
            assert isinstance(out, VideoFrame)
            out.pict_type = 0  # else the encoder takes a picture's former type for an order
            container.mux(track.encode(out))
        container.mux(track.encode(None))


def _repeat(part: Path, whole: Path, made: Recipe) -> None:
    """The part again and again, its packets as they are: each of its GOPs stands alone."""
    first_s = made.turned * GOP / FPS
    with av.open(str(whole), "w") as out:
        with av.open(str(part)) as container:
            track = out.add_stream_from_template(container.streams.video[0])
        for turn in range(made.times):
            begins_s = turn * made.part_s - first_s
            for packet in _packets(part, first_s, made.part_s):
                _mux(packet, begins_s, track, out)
            for packet in _packets(part, 0.0, first_s):
                _mux(packet, begins_s + made.part_s, track, out)


def _packets(part: Path, from_s: float, to_s: float) -> "Iterator[Packet[VideoStream]]":
    """The packets of the GOPs that begin within a time."""
    with av.open(str(part)) as container:
        within = False
        for packet in container.demux(video=0):
            if packet.pts is None or packet.dts is None:
                continue
            if packet.is_keyframe:
                within = from_s <= packet.pts * packet.time_base < to_s
            if within:
                yield packet


def _mux(
    packet: "Packet[VideoStream]", later_s: float, track: VideoStream, out: OutputContainer
) -> None:
    assert packet.pts is not None
    assert packet.dts is not None
    shift = round(later_s / packet.time_base)
    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
    packet.stream = track
    out.mux(packet)


def _since_s(visits: Visits, t_s: float) -> float | None:
    """How long somebody has been there."""
    index = bisect.bisect_right(visits, (t_s, math.inf)) - 1
    if index < 0:
        return None
    began_s, length_s = visits[index]
    return t_s - began_s if t_s < began_s + length_s - 1e-6 else None


def _noise(strength: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=WIDTH, height=HEIGHT, format=av.VideoFormat("bgr24"),
                              time_base=Fraction(1, FPS))  # fmt: skip
    steps = [
        graph.add("format", "yuv420p"),
        graph.add("noise", f"alls={strength}:allf=t"),
        graph.add("buffersink"),
    ]
    for before, after in itertools.pairwise([source, *steps]):
        before.link_to(after)
    graph.configure()
    return graph
