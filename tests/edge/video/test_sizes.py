"""Whether packet sizes tell motion: streams whose sizes are made up, and encoded ones."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.video import demand as demands
from edge.video.decode import Decoder, DecodeStats, starting_at
from edge.video.sizes import MOST_FALSE, Sizes
from edge.video.source import packets
from edge.vision.motion import Motion
from edge.watch import Watch
from tests.edge.test_analysis import analysis, task
from tests.edge.test_watch import looked_at
from tests.parts import clips
from wire import specs

FPS = 10
GOP = 40
EVERY_S, VISIT_S = 40.0, 4.0
"""A visit comes so often, and lasts so long."""

Size = Callable[[float, int, bool], float]
"""The usual bytes of a packet: by time, turn in a group of B-frames, whether something moves."""


def moves(pts_s: float) -> bool:
    """Whether there is a visit."""
    return since_visit_s(pts_s) < VISIT_S


def since_visit_s(pts_s: float) -> float:
    """How long ago the last visit began; each begins 2 s before a key frame."""
    return (pts_s - 38.0) % EVERY_S


class Camera:
    """A stream that goes on. Idle, its pictures are judged at key frames and when suggested; for
    3 s after a change, every 0.2 s."""

    def __init__(self, size: Size, b_frames: int = 0) -> None:
        self.sizes = Sizes()
        self.suggested: list[float] = []
        self._size = size
        self._group = b_frames + 1
        self._noise = np.random.default_rng(5)
        self._n = 0
        self._awake_until_s = 3.0

    def run(self, seconds: float, *, seen: bool = True) -> None:
        """Go on for so long. Unless `seen`, no picture shows that anything moves."""
        begin, self._n = self._n, self._n + round(seconds * FPS)
        for n in range(begin, self._n):
            turn = n % self._group
            shown = n + self._group - 1 if turn == 0 else n - 1  # a P-frame comes before its Bs
            pts_s = shown / FPS
            usual = self._size(pts_s, turn, moves(pts_s))
            size = round(usual * self._noise.uniform(0.8, 1.25))
            self.sizes.note(10 * size if n % GOP == 0 else size, n % GOP == 0, pts_s)
            at_s = (n - self._group) / FPS  # what has left the decoder
            if self.sizes.suggests:
                self.suggested.append(pts_s)
            awake = at_s < self._awake_until_s and n % 2 == 0
            if awake or n % GOP == 0 or self.sizes.suggests:
                moved = seen and moves(at_s)
                self.sizes.label(at_s, moved)
                if moved:
                    self._awake_until_s = at_s + 3.0

    @property
    def early(self) -> list[float]:
        """How long after the beginning of its visit each suggestion came."""
        return [round(since_visit_s(pts_s), 3) for pts_s in self.suggested]


def variable(pts_s: float, turn: int, moving: bool) -> float:
    """Quality stays, so what moves costs bits; a B-frame takes a quarter of a P-frame."""
    return (3000 if moving else 600) * (0.25 if turn else 1.0)


def constant(pts_s: float, turn: int, moving: bool) -> float:
    """The bit rate stays."""
    return 2000


def drifting(pts_s: float, turn: int, moving: bool) -> float:
    """Rate control wanders by half within minutes."""
    return variable(pts_s, turn, moving) * (1 + 0.5 * float(np.sin(pts_s / 60)))


def with_clock(pts_s: float, turn: int, moving: bool) -> float:
    """A burned-in clock makes the first packet of each second three times as large."""
    return variable(pts_s, turn, moving) * (3 if pts_s % 1 < 0.05 else 1)


@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize("size", [variable, drifting, with_clock])
def test_where_sizes_follow_motion_they_suggest_a_look(size: Size, b_frames: int) -> None:
    """Within a second of each later visit, and at no other time."""
    camera = Camera(size, b_frames)
    camera.run(600)
    assert camera.sizes.informative
    camera.suggested.clear()
    camera.run(600)
    assert len(camera.early) == 15
    assert all(0 <= late_s <= 1.0 for late_s in camera.early), camera.early


@pytest.mark.parametrize("size", [constant, lambda *_: 1, lambda *_: 0])
def test_where_they_do_not_nothing_is_suggested(size: Size) -> None:
    """Constant bit rate, and packets that say nothing at all."""
    camera = Camera(size)
    camera.run(1800)
    assert not camera.sizes.informative
    assert camera.suggested == []


def test_nothing_is_assumed() -> None:
    """There are neither suggestions before there is proof, nor where nothing ever moves."""
    young = Camera(variable)
    young.run(5 * EVERY_S)
    assert not young.sizes.informative
    still = Camera(lambda *_: 600)
    still.run(1800)
    assert not still.sizes.informative
    assert young.suggested == still.suggested == []


def test_night_is_learned_anew() -> None:
    """When all packets become three times as large it may be taken for motion, but not for long."""
    night_s = 900.0
    camera = Camera(lambda pts_s, *rest: variable(pts_s, *rest) * (3 if pts_s >= night_s else 1))
    camera.run(night_s)
    camera.suggested.clear()
    camera.run(60)
    assert len([late_s for late_s in camera.early if late_s > VISIT_S]) <= MOST_FALSE + 1
    camera.run(1800)
    camera.suggested.clear()
    camera.run(400)
    assert len(camera.early) == 10
    assert all(0 <= late_s <= 1.0 for late_s in camera.early), camera.early


def test_whoever_gives_false_alarms_is_not_asked_for_a_while() -> None:
    """Large packets, and no picture shows why: more than three times, and there is silence."""
    camera = Camera(variable)
    camera.run(600)
    camera.suggested.clear()
    camera.run(590, seen=False)
    assert 1 <= len(camera.suggested) <= MOST_FALSE + 1
    assert not camera.sizes.informative


def scene(seconds: float) -> Iterator[clips.Picture]:
    """A noisy still picture; a square comes between two key frames, and moves."""
    noise = np.random.default_rng(11)
    still = noise.integers(60, 120, (120, 160, 3), np.uint8)
    for number in range(round(seconds * FPS)):
        picture = still + noise.integers(0, 3, still.shape, np.uint8)
        begun_s = number / FPS % 28 - 21.15  # 2.8 s before a key frame
        if 0 <= begun_s < 4:
            left = 20 + 3 * round(begun_s * FPS) % 100
            picture[40:70, left : left + 20] = 250
        yield picture


def woken(path: Path) -> tuple[list[float], list[float]]:
    """When a recording's stream woke, and the times of all pictures that a model looks at."""
    watch = Watch(replace(demands.of_task(task(fps=5.0)), min_visit_s=4.0), Motion())
    watch.analyses = (analysis(task(fps=5.0)),)
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    woke, inferred, before = [], [], True
    for seen in looked_at(watch, packets(stream), Decoder(starting_at(0), DecodeStats())):
        if watch.awake and not before:
            woke.append(watch.now_s)
        before = watch.awake
        if not seen.quiet:
            inferred.append(round(seen.frame.pts_s, 3))
    return woke, inferred


RATES: dict[str, dict[str, Any]] = {
    "crf": {"crf": "23"},
    "cbr": {"b": "200k", "maxrate": "200k", "bufsize": "40k", "x264-params": "nal-hrd=cbr"},
}


@pytest.mark.parametrize("rate", RATES)
def test_an_idle_stream_wakes_before_its_next_key_frame(tmp_path: Path, rate: str) -> None:
    """With constant quality it does; with a constant bit rate it does not, and misses nothing."""
    path = clips.write(
        tmp_path / "a.mp4", scene(308), fps=FPS, g=str(GOP), preset="ultrafast", **RATES[rate]
    )
    woke, inferred = woken(path)
    for begins_s in (273.2, 301.2):
        after_s = min(at_s for at_s in woke if at_s > begins_s) - begins_s
        if rate == "crf":
            assert after_s < 1.0
        else:
            assert after_s == pytest.approx(2.8)
        first = round(begins_s * 5)
        assert {round(n / 5, 3) for n in range(first, first + 20)} <= set(inferred)
