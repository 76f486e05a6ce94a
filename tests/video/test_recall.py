"""Adaptive decoding misses nothing that full decoding finds: a sample of `make recall`."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import encodings, recordings, trial, visits
from benchmarks.incidents import Incident, compare
from benchmarks.trial import Network, Run, adaptively, in_full
from edge.video.decode import Frame
from edge.vision.detect import Detections, Detector
from edge.vision.manifest import find
from tests.parts import clips
from wire import specs

ROOT = Path(__file__).parents[2]
LOOKS_MS = range(0, 60_000, 200)

pytestmark = pytest.mark.timeout(240)  # a few seconds each, of a machine that has nothing else


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the recordings of this session lie."""
    return tmp_path_factory.mktemp("recall")


def cut(seed: int, seconds: float) -> visits.Scene:
    """The beginning of a scene: one stretch of quiet and one of visits."""
    scene = visits.scene(seed)
    return replace(scene, script=replace(scene.script, period=seconds))


@pytest.fixture(scope="session")
def scenes(made: Path) -> dict[int, tuple[Path, specs.Task]]:
    """Two short scenes with the tasks that watch them, by seed."""
    shown = {6: cut(6, 22.5), 32: cut(32, 25.0)}
    return {
        seed: (visits.rendered(scene, made)[0], visits.task(scene)) for seed, scene in shown.items()
    }


@pytest.fixture(scope="session")
def detector() -> Detector:
    return Detector(find([ROOT / "models"], "forecourt-nano"), threads=1)


@pytest.mark.parametrize(
    ("seed", "variant"),
    [(6, ""), (6, "opengop-h265"), (32, "bframes"), (32, "gop10")],
)
def test_a_scene_tells_the_same_however_little_is_decoded(
    seed: int,
    variant: str,
    made: Path,
    scenes: dict[int, tuple[Path, specs.Task]],
    detector: Detector,
) -> None:
    """No incident is missed, invented or shifted by more than one look, and time was spent idle."""
    file, task = scenes[seed]
    if variant:
        file = encodings.encoded(file, encodings.VARIANTS[variant], made)
    tried = trial.tried(file, task, detector, seen_by=visits.SEEN_BY)
    assert tried.agreement.found
    assert tried.agreement.missed == []
    assert tried.agreement.extra == []
    assert tried.agreement.late == []
    assert tried.other_pictures == 0
    assert tried.awake_share < 1.0


def test_a_real_recording_that_pauses_tells_the_same(made: Path) -> None:
    """A worker who stands still for a while is carried, and followed when he goes on."""
    source = clips.asset("videos/worker-zone-detection.gif")
    network = Detector(find([clips.asset("models/yolox_nano.onnx").parent], "yolox-nano"))
    file = encodings.encoded(source, encodings.VARIANTS["held"], made)
    tried = trial.tried(file, recordings.task(source.stem), network, seen_by=recordings.SEEN_BY)
    assert tried.agreement.found
    assert tried.agrees
    assert tried.awake_share < 0.9


class Asleep:
    """A network that is never asked again: what it saw first is all that it ever sees."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._first: Detections | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return self._network.labels

    def detect_frame(self, picture: Frame) -> Detections:
        if self._first is None:
            self._first = self._network.detect_frame(picture)
        return self._first


def test_a_stream_that_never_wakes_is_found_out(
    scenes: dict[int, tuple[Path, specs.Task]], detector: Detector
) -> None:
    """The comparison can fail: who carries on what was seen first misses the visits."""

    def asleep(file: Path, task: specs.Task, network: Network) -> Run:
        return in_full(file, task, Asleep(network))

    file, task = scenes[6]
    tried = trial.tried(file, task, detector, seen_by=visits.SEEN_BY, adaptive=asleep)
    assert tried.agreement.missed
    assert not tried.agrees


def test_a_file_that_cannot_be_read_is_refused_by_both(tmp_path: Path, detector: Detector) -> None:
    """Both ways give a reason and no incident."""
    file = tmp_path / "no.mp4"
    file.write_bytes(b"no recording")
    tried = trial.tried(file, visits.task(visits.scene(0)), detector, adaptive=adaptively)
    assert tried.full.refused
    assert tried.adaptive.refused
    assert tried.agrees


def incident(since_ms: int, last_ms: int, rule: str = "there", label: str = "car") -> Incident:
    visit_s = (last_ms - since_ms) / 1000 + 0.2
    return Incident("presence", rule, label, "", since_ms, last_ms, visit_s)


def test_each_incident_counts_once_and_the_nearest_is_its_partner() -> None:
    """One incident cannot stand for two; what splits one in two invents one."""
    full = [incident(0, 10_000), incident(20_000, 24_000)]
    split = [incident(0, 4_000), incident(6_000, 10_000), incident(20_000, 24_000, label="truck")]
    agreement = compare(full, split, {"there": 1.0}, LOOKS_MS)
    assert [pair.adaptive for pair in agreement.found] == [split[0], split[2]]
    assert agreement.extra == [split[1]]
    assert [pair.end_error_ms for pair in agreement.late] == [-6_000]


@pytest.mark.parametrize(("shift_ms", "late"), [(0, 0), (200, 0), (-200, 0), (400, 1), (-400, 1)])
def test_one_look_is_the_tolerance(shift_ms: int, late: int) -> None:
    """A start may be one analysed frame off, and no more."""
    agreement = compare(
        [incident(2_000, 8_000)], [incident(2_000 + shift_ms, 8_000)], {"there": 1.0}, LOOKS_MS
    )
    assert len(agreement.found) == 1
    assert len(agreement.late) == late


def test_exchanged_ends_are_no_other_times() -> None:
    """Two objects next to each other may end as each other: told, and not held against it."""
    full = [incident(1_000, 8_000), incident(5_000, 20_000)]
    crossed = [incident(1_000, 20_000), incident(5_000, 8_000)]
    agreement = compare(full, crossed, {"there": 1.0}, LOOKS_MS)
    assert (len(agreement.exchanged), agreement.late) == (2, [])
    shifted = [incident(1_000, 20_000), incident(5_000, 9_000)]
    assert len(compare(full, shifted, {"there": 1.0}, LOOKS_MS).late) == 2


def test_only_full_decoding_may_waver_while_nothing_changes() -> None:
    """A start that full decoding alone has in a still stretch is no visit; adaptive may not."""
    still = [(5_000, 20_000)]
    seen, more = [incident(1_000, 30_000)], [incident(1_000, 30_000), incident(8_000, 12_000)]
    told = compare(more, seen, {"there": 1.0}, LOOKS_MS, still)
    assert (told.wavering, told.agrees) == ([more[1]], True)
    assert compare(seen, more, {"there": 1.0}, LOOKS_MS, still).extra == [more[1]]
    assert compare([incident(1_000, 9_000)], seen, {"there": 1.0}, LOOKS_MS, still).agrees
    assert not compare(seen, [incident(1_000, 9_000)], {"there": 1.0}, LOOKS_MS, still).agrees


def test_visits_that_no_rule_must_see_are_told_apart() -> None:
    """Below min_visit nothing is missed or invented, but it is told whether it was seen."""
    full = [incident(2_000, 2_400), incident(9_000, 9_600)]
    agreement = compare(full, [incident(2_000, 2_400), incident(30_000, 30_200)], {"there": 1.0},
                        LOOKS_MS)  # fmt: skip
    assert agreement.agrees
    assert [seen for _, seen in agreement.short] == [True, False]


def test_another_rule_another_object_another_direction_is_another_incident() -> None:
    """Only like objects under the same rule are the same incident."""
    full = [incident(2_000, 8_000)]
    for other in (
        incident(2_000, 8_000, rule="else"),
        incident(2_000, 8_000, label="person"),
        replace(full[0], direction="left-to-right"),
        incident(12_000, 15_000),
    ):
        agreement = compare(full, [other], {"there": 1.0, "else": 1.0}, LOOKS_MS)
        assert (len(agreement.missed), len(agreement.extra)) == (1, 1)
