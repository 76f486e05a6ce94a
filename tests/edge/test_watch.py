"""Awake and idle: what is decoded, what is left out, and that nothing is missed by it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.analysis import Analysis
from edge.video import demand as demands
from edge.video.decode import Decoder, DecodeStats, starting_at
from edge.video.source import Packet, packets
from edge.vision.motion import Motion
from edge.watch import CHECK_S, HOLD_S, Seen, Watch
from tests.edge.test_analysis import analysis, task
from tests.parts import clips
from wire import specs

FPS = 10
QUIET_S = 14.0
"""Long enough to be idle before something comes."""


def scene(visits: Iterable[tuple[float, float]], seconds: float) -> Iterator[clips.Picture]:
    """A noisy still picture, into which a square comes at some times, moves, and goes."""
    noise = np.random.default_rng(11)
    still = noise.integers(60, 120, (120, 160, 3), np.uint8)
    for number in range(round(seconds * FPS)):
        at_s = number / FPS
        picture = still + noise.integers(0, 3, still.shape, np.uint8)
        for begins_s, ends_s in visits:
            if begins_s <= at_s < ends_s:
                left = 20 + 3 * round((at_s - begins_s) * FPS) % 100
                picture[40:70, left : left + 20] = 250
        yield picture


def looked_at(watch: Watch, source: Iterable[Packet], decoder: Decoder) -> Iterator[Seen]:
    """The pictures of a stream, with a model that looks at each it is shown and sees nothing."""
    for seen in watch.pictures(source, decoder):
        yield seen
        if not seen.quiet and seen.due:
            watch.looked(np.empty((0, 4), np.float32), seen.frame.pts_s, restless=False)


class Run:
    """A recording that was watched: what was seen, and what it cost."""

    def __init__(self, path: Path, *, fps: float = 5.0, **changed: Any) -> None:
        self.stats = DecodeStats()
        demand = replace(demands.of_task(task(fps=fps)), min_visit_s=2.0)
        self.watch = Watch(replace(demand, **changed), Motion())
        self.analysis: Analysis = analysis(task(fps=fps))
        self.watch.analyses = (self.analysis,)
        stream = specs.Stream(url=path.as_uri(), pace="fast")
        decoder = Decoder(starting_at(0), self.stats)
        self.seen = list(looked_at(self.watch, packets(stream), decoder))

    @property
    def inferred(self) -> list[float]:
        """Stream times of the pictures that a model looks at."""
        return [round(seen.frame.pts_s, 3) for seen in self.seen if not seen.quiet]

    def between(self, begin_s: float, end_s: float) -> list[float]:
        """Those of some time."""
        return [pts_s for pts_s in self.inferred if begin_s <= pts_s < end_s]


def due(begin_s: float, end_s: float) -> list[float]:
    """When pictures are due, twice a frame's length apart."""
    first, last = round(begin_s * 5 + 0.499), round(end_s * 5 + 0.499)
    return [round(n / 5, 3) for n in range(first, last)]


ENCODINGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("mp4", "libx264", {}),
    "b-frames": ("mp4", "libx264", {"bf": "3", "b_strategy": "0"}),
    "open-gop": ("mp4", "libx264", {"bf": "2", "x264-params": "open-gop=1"}),
    "open-gop-h265": ("mp4", "libx265", {"bf": "2", "x265-params": "open-gop=1:log-level=none"}),
    "mpeg4-avi": ("avi", "mpeg4", {}),
}


INTRA_REFRESH: dict[str, Any] = {"x264-params": "intra-refresh=1"}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_comes_while_idle_is_seen_from_its_first_picture(
    tmp_path: Path, encoding: str
) -> None:
    """Idle, key frames alone are decoded; a change brings back every due picture before it."""
    suffix, codec, options = ENCODINGS[encoding]
    pictures = scene([(QUIET_S + 0.5, QUIET_S + 3.0)], QUIET_S + 14)
    path = clips.write(tmp_path / f"a.{suffix}", pictures, fps=FPS, codec=codec, g="20", **options)
    run = Run(path)
    idle = [seen for seen in run.seen if seen.quiet and 9 <= seen.frame.pts_s < QUIET_S]
    assert [seen.level for seen in idle] == ["KEY"] * len(idle)
    assert 2 <= len(idle) <= 3
    assert run.between(QUIET_S + 0.4, QUIET_S + 3.0) == due(QUIET_S + 0.4, QUIET_S + 3.0)
    assert any(seen.late for seen in run.seen)
    times = [seen.frame.pts_s for seen in run.seen]
    assert times == sorted(set(times))
    # It goes idle again, and that saves decoding.
    assert run.between(QUIET_S + 3.6 + HOLD_S, QUIET_S + 14) == []
    assert run.stats.frames < 0.75 * run.stats.packets


def test_a_gop_that_is_longer_than_the_shortest_visit_is_begun(tmp_path: Path) -> None:
    """Of a GOP of 3 s, one second is decoded: no two pictures are further apart than 2 s."""
    path = clips.write(tmp_path / "a.mp4", scene([], 30), fps=FPS, g="30")
    run = Run(path)
    quiet = [seen.frame.pts_s for seen in run.seen if seen.frame.pts_s >= 12]
    apart = np.diff(quiet)
    assert apart.max() <= 2.0 + 0.01
    assert apart.min() == pytest.approx(0.2)
    assert run.stats.frames < 0.75 * run.stats.packets


def test_a_gop_that_turns_out_longer_is_decoded_after_all(tmp_path: Path) -> None:
    """An encoder that saves key frames while nothing happens cannot hide a visit between two."""
    short = clips.write(tmp_path / "a.h264", scene([], 14), fps=FPS, g="20")
    rest = clips.write(tmp_path / "b.h264", scene([(5.0, 8.0)], 16), fps=FPS, g="400")
    both = tmp_path / "both.h264"
    both.write_bytes(short.read_bytes() + rest.read_bytes())
    run = Run(both)
    assert run.between(19.0, 22.0) == due(19.0, 22.0)
    assert run.stats.frames <= 1.1 * run.stats.packets


def test_amid_a_gop_what_may_not_be_caught_up_waits_for_the_next(tmp_path: Path) -> None:
    """I10: without leave nothing more is decoded; all of that time counts as not seen, once."""
    short = clips.write(tmp_path / "a.h264", scene([], 14), fps=FPS, g="20")
    rest = clips.write(tmp_path / "b.h264", scene([], 12), fps=FPS, g="60")
    both = tmp_path / "both.h264"
    both.write_bytes(short.read_bytes() + rest.read_bytes())
    stats = DecodeStats()
    watch = Watch(
        replace(demands.of_task(task()), min_visit_s=2.0), Motion(), lambda seconds: False
    )
    watch.analyses = (analysis(task()),)
    stream = specs.Stream(url=both.as_uri(), pace="fast")
    decoder = Decoder(starting_at(0), stats)
    seen = list(looked_at(watch, packets(stream), decoder))
    carried_s = sum(each.since_s for each in seen if each.quiet)
    awake_s = max(each.frame.pts_s for each in seen if not each.quiet)
    assert stats.frames < 0.5 * stats.packets
    assert 8 <= watch.given_up_s <= 12
    assert carried_s + watch.given_up_s == pytest.approx(watch.now_s - awake_s, abs=0.5)


def test_a_stream_that_no_task_watches_is_off(tmp_path: Path) -> None:
    """A task that was rejected costs no decoding."""
    path = clips.write(tmp_path / "a.mp4", scene([], 4), fps=FPS, g="20")
    stats = DecodeStats()
    watch = Watch(demands.of_task(task()), Motion())
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    assert list(looked_at(watch, packets(stream), Decoder(starting_at(0), stats))) == []
    assert (stats.frames, watch.level) == (0, "OFF")


def test_a_task_that_looks_seldom_is_checked_too(tmp_path: Path) -> None:
    """A check is for every task, whether a look of its own is due or not."""
    path = clips.write(tmp_path / "a.mp4", scene([], CHECK_S + 14), fps=FPS, g="20")
    run = Run(path, fps=0.1)
    assert [len(seen.due) for seen in run.seen if seen.check] == [1]


def test_intra_refresh_is_decoded_whole_and_not_inferred_while_quiet(tmp_path: Path) -> None:
    """Without key frames nothing may be left out; what stands still needs no model all the same."""
    pictures = scene([(22.5, 24.0)], 30)
    path = clips.write(tmp_path / "a.mp4", pictures, fps=FPS, g="20", **INTRA_REFRESH)
    run = Run(path)
    assert run.stats.frames >= run.stats.packets
    assert run.between(18.0, 22.4) == []
    assert {seen.level for seen in run.seen if seen.quiet} == {"FULL"}
    assert run.between(22.5, 24.0) == due(22.5, 24.0)


def test_of_a_stream_of_key_frames_only_those_wanted_are_decoded(tmp_path: Path) -> None:
    """MJPEG: five pictures a second while awake, about one while idle."""
    path = clips.write(
        tmp_path / "a.avi", scene([(24.5, 26.0)], 30), fps=FPS, codec="mjpeg", strict="unofficial"
    )
    run = Run(path)
    assert run.between(24.4, 26.0) == due(24.4, 26.0)
    assert run.stats.frames < 0.6 * run.stats.packets
    idle = [seen.frame.pts_s for seen in run.seen if 18 <= seen.frame.pts_s < 24]
    assert 5 <= len(idle) <= 8


def test_full_never_rests(tmp_path: Path) -> None:
    """`decode: full` looks at every due picture."""
    path = clips.write(tmp_path / "a.mp4", scene([], 12), fps=FPS, g="20")
    run = Run(path, full=True)
    assert run.inferred == due(0, 12)
    assert run.watch.idle_s == 0


def test_an_idle_stream_is_checked_now_and_then(tmp_path: Path) -> None:
    """Whatever crept in unnoticed is found by a look of the model."""
    path = clips.write(tmp_path / "a.mp4", scene([], CHECK_S + 12), fps=FPS, g="20")
    run = Run(path)
    checks = [seen.frame.pts_s for seen in run.seen if seen.check]
    assert len(checks) == 1
    assert CHECK_S <= checks[0] <= CHECK_S + 10


def test_a_check_that_finds_others_wakes_the_stream(tmp_path: Path) -> None:
    """What is told from another thread takes effect with the next packet."""
    path = clips.write(tmp_path / "a.mp4", scene([], 20), fps=FPS, g="20")
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    watch = Watch(replace(demands.of_task(task()), min_visit_s=2.0), Motion())
    watch.analyses = (analysis(task()),)
    woken = 0
    for seen in looked_at(watch, packets(stream), Decoder(starting_at(0), DecodeStats())):
        if seen.quiet and not woken:
            watch.looked(np.empty((0, 4), np.float32), 0.0, restless=False, differs=True)
            woken = 1
        elif woken == 1:
            assert not seen.quiet
            woken = 2
    assert woken == 2


def test_catching_up_that_is_refused_is_told(tmp_path: Path) -> None:
    """I10: what was left out and not decoded after all is counted, and live work goes on."""
    pictures = scene([(QUIET_S + 0.5, QUIET_S + 6.0)], QUIET_S + 8)
    path = clips.write(tmp_path / "a.mp4", pictures, fps=FPS, g="20")
    watch = Watch(
        replace(demands.of_task(task()), min_visit_s=2.0), Motion(), lambda seconds: seconds < 0.5
    )
    watch.analyses = (analysis(task()),)
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    decoder = Decoder(starting_at(0), DecodeStats())
    seen = [s.frame.pts_s for s in looked_at(watch, packets(stream), decoder) if not s.quiet]
    assert 1.5 <= watch.given_up_s <= 2.5
    assert [pts_s for pts_s in seen if QUIET_S + 0.4 < pts_s < QUIET_S + 1.9] == []
    assert len([pts_s for pts_s in seen if QUIET_S + 2 <= pts_s < QUIET_S + 6]) == 20


def test_under_a_short_budget_key_frames_are_looked_at_and_nothing_else(tmp_path: Path) -> None:
    """The last step: each key frame is inferred, whatever moves."""
    path = clips.write(tmp_path / "a.mp4", scene([(0, 30)], 24), fps=FPS, g="20")
    watch = Watch(replace(demands.of_task(task()), min_visit_s=2.0), Motion())
    watch.analyses = (analysis(task()),)
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    seen = []
    for each in looked_at(watch, packets(stream), Decoder(starting_at(0), DecodeStats())):
        seen.append(each.frame.pts_s)
        watch.keys_only = each.frame.pts_s >= 8
    assert [pts_s for pts_s in seen if pts_s > 10] == pytest.approx([12, 14, 16, 18, 20, 22])


def test_whoever_asks_gets_a_picture_of_an_idle_stream(tmp_path: Path) -> None:
    """The newest one, decoded for that, though nobody else wants it."""
    path = clips.write(tmp_path / "a.mp4", scene([], 20), fps=FPS, g="20")
    watch = Watch(replace(demands.of_task(task()), min_visit_s=2.0), Motion())
    watch.analyses = (analysis(task()),)
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    asked_s = 15.3

    def asking() -> Iterator[Packet]:
        for packet in packets(stream):
            if packet.pts_s >= asked_s > packet.pts_s - 0.1:
                watch.ask()
            yield packet

    decoder = Decoder(starting_at(0), DecodeStats())
    shown = [s.frame.pts_s for s in looked_at(watch, asking(), decoder) if not s.due]
    assert shown == pytest.approx([15.3])


def test_who_was_not_looked_at_stays_awake(tmp_path: Path) -> None:
    """I10: where no look is made, nothing can be carried."""
    path = clips.write(tmp_path / "a.mp4", scene([], 16), fps=FPS, g="20")
    watch = Watch(replace(demands.of_task(task()), min_visit_s=2.0), Motion())
    watch.analyses = (analysis(task()),)
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    decoder = Decoder(starting_at(0), DecodeStats())
    assert not any(seen.quiet for seen in watch.pictures(packets(stream), decoder))


@pytest.mark.parametrize("bf", ["3", "7"])
def test_a_begun_gop_with_b_frames_is_seen_without_a_hole(tmp_path: Path, bf: str) -> None:
    """Pictures that are held back for their order are not passed over when a change shows."""
    pictures = scene([(QUIET_S + 5.0, QUIET_S + 7.3)], QUIET_S + 14)
    path = clips.write(tmp_path / "a.mp4", pictures, fps=FPS, g="20", bf=bf, b_strategy="0")
    run = Run(path, min_visit_s=1.9)
    assert run.between(QUIET_S + 5, QUIET_S + 7.2) == due(QUIET_S + 5, QUIET_S + 7.2)
    times = [seen.frame.pts_s for seen in run.seen]
    assert times == sorted(set(times))


def test_whoever_asks_moves_no_time_of_a_stream_of_key_frames(tmp_path: Path) -> None:
    """A picture that is asked for as something comes leaves all pictures where they are."""
    pictures = scene([(QUIET_S + 5, QUIET_S + 8)], QUIET_S + 10)
    path = clips.write(tmp_path / "a.avi", pictures, fps=FPS, codec="mjpeg", strict="unofficial")
    watch = Watch(replace(demands.of_task(task()), min_visit_s=2.0), Motion())
    watch.analyses = (analysis(task()),)
    stats = DecodeStats()

    def asking() -> Iterator[Packet]:
        for packet in packets(specs.Stream(url=path.as_uri(), pace="fast")):
            if round(packet.pts_s * FPS) == round((QUIET_S + 5.3) * FPS):
                watch.ask()
            yield packet

    seen = [s for s in looked_at(watch, asking(), Decoder(starting_at(0), stats)) if s.due]
    times = [each.frame.pts_s for each in seen]
    assert times == sorted(set(times))
    for each in seen:  # a picture's own stamp is the time that it was given
        assert each.frame.picture.pts is not None
        assert each.frame.pts_s == pytest.approx(each.frame.picture.pts / FPS, abs=0.001)


def test_a_stream_that_changes_from_key_frames_to_gops_loses_nothing(tmp_path: Path) -> None:
    """The key packet that was not wanted is decoded after all when others follow on it."""
    intra = clips.write(tmp_path / "a.h264", scene([], 6.1), fps=FPS, g="1")
    gops = clips.write(tmp_path / "b.h264", scene([(2, 6)], 10), fps=FPS, g="100")
    both = tmp_path / "both.h264"
    both.write_bytes(intra.read_bytes() + gops.read_bytes())
    for full in (False, True):
        run = Run(both, full=full)
        seen = [seen.frame.pts_s for seen in run.seen]
        assert np.diff([pts_s for pts_s in seen if pts_s > 5]).max() < 0.3


def test_a_quiet_camera_with_a_long_gop_is_learned_while_idle(tmp_path: Path) -> None:
    """It rests before its key frames are known to stand alone, and is told so later."""
    path = clips.write(tmp_path / "a.mp4", scene([], 60), fps=FPS, g="100")
    run = Run(path, min_visit_s=15.0)
    assert run.watch.traits.keys_alone
    assert run.seen[-1].level == "KEY"
