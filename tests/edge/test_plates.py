"""Plates in recordings: the two photographs of the assets as vehicles that stand, read for real."""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest

from edge import ocr as library
from edge.analysis import Analysis
from edge.ocr import Ocr
from edge.plates import Plates
from edge.replay import replay
from edge.video.decode import Frame, frames, starting_at, still
from edge.video.source import packets
from edge.vision.blur import Hidden
from edge.vision.detect import Detections, Detector
from edge.vision.geometry import Box
from edge.vision.manifest import ModelError, find
from edge.vision.plates import Reading, plates_of
from edge.vision.track import Track
from tests.parts import clips
from tests.parts.clips import Picture
from wire import specs
from wire.events import Event

KEY = b"k" * 32
CLOSE_UP: Box = (0.02, 0.02, 0.98, 0.98)
PARKED: Box = (0.31, 0.31, 0.99, 0.91)
PHOTOGRAPHS = {"2.jpg": (CLOSE_UP, "藏DT5022"), "test_img.jpg": (PARKED, "苏ED51712")}


def task(**plates: Any) -> specs.Task:
    """A task that wants plates, unless it is told otherwise."""
    spec: dict[str, Any] = {
        "camera": "pump-1",
        "fps": 5,
        "decode": "full",
        "model": {"name": "m"},
        "zones": {"pump": [[0, 0], [1, 0], [1, 1], [0, 1]], "sky": [[0, 0], [1, 0], [1, 0.1]]},
        "rules": [{"name": "overstay", "when": {"class": "car"}, "for": "5s"}],
        "plates": {"pattern": "cn", "keep": "text", **plates},
    }
    return parsed(spec)


def parsed(spec: dict[str, Any]) -> specs.Task:
    found = specs.parse({"kind": "Task", "metadata": {"name": "t", "station": "s"}, "spec": spec})
    assert isinstance(found, specs.Task)
    return found


class Boxes:
    """A detector that knows where the vehicle is: at `box`, moved by `speed` with each look."""

    labels = ("person", "car")

    def __init__(self, box: Box, speed: float = 0.0) -> None:
        self.box = np.array(box, np.float32)
        self.speed = speed
        self.looks = 0

    def detect_frame(self, frame: Frame) -> Detections:
        """One car."""
        x = self.speed * self.looks
        self.looks += 1
        box = self.box + np.array((x, 0, x, 0), np.float32)
        return Detections(box[None].clip(0, 1), np.array([0.9], np.float32), ("car",))


class Lines:
    """A reader that reads the same in each picture, and keeps the pictures."""

    def __init__(self, *lines: Reading) -> None:
        self.lines = lines
        self.pictures: list[Picture] = []

    def read(self, image: Picture, detector: Detector | None = None) -> Sequence[Reading]:
        """What it was made with."""
        self.pictures.append(image)
        return self.lines


def seen(path: Path, wanted: specs.Task, boxes: Boxes, reader: object, **given: Any) -> list[Event]:
    """The events of a recording."""
    return list(replay(path, wanted, cast(Detector, boxes), ocr=cast(Ocr, reader), **given))


@pytest.fixture(scope="module")
def ocr() -> Iterator[Ocr]:
    """The real library, loaded where every way to the network ends in an error."""
    pytest.importorskip("rapidocr")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("getaddrinfo", "create_connection"):
            patch.setattr(socket, name, _no_network)
        patch.setattr(socket.socket, "connect", _no_network)
        yield Ocr()


def _no_network(*_args: object, **_named: object) -> None:
    raise AssertionError("the library asks the network")


def photograph(name: str) -> Picture:
    """A photograph of the assets, RGB, its sides even."""
    image = cv2.imread(str(clips.asset(f"eval/plates_hyperlpr/{name}")))
    assert image is not None
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    return np.ascontiguousarray(image[:height, :width, ::-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plates")


def clip(folder: Path, name: str, pictures: int = 32) -> Path:
    """A recording that shows a photograph, 5 pictures a second."""
    path = folder / f"{name}-{pictures}.mp4"
    if not path.exists():
        clips.write(path, [photograph(name)] * pictures, fps=5, preset="ultrafast")
    return path


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_plate_of_a_car_that_stands_is_read(ocr: Ocr, folder: Path, name: str) -> None:
    """One event when it is certain; the incidents of the same track carry it from then on."""
    box, plate = PHOTOGRAPHS[name]
    start, *rest = seen(clip(folder, name), task(), Boxes(box), ocr)
    assert (start.kind, start.severity, start.phase) == ("plate", "info", None)
    assert (start.label, start.track, start.camera) == ("car", 1, "pump-1")
    assert start.plate[1:] == plate[1:]  # the province is small, and may be `?`
    assert start.plate[0] in (plate[0], "?")
    assert start.score is not None
    assert start.score >= 0.6
    assert 1500 <= start.t_ms <= 6000
    assert [(each.kind, each.phase) for each in rest] == [
        ("presence", "start"), ("presence", "end"),
    ]  # fmt: skip
    assert {each.plate for each in rest} == {start.plate}


def test_a_model_finds_the_plate_first(ocr: Ocr, folder: Path, tmp_path: Path) -> None:
    """With a detector of plates only what it finds is read; what it does not find, is not."""
    network = clips.asset("models/hyperlpr_plate_320.onnx")
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate" / network.name).symlink_to(network)
    (tmp_path / "plate" / "model.toml").write_text(
        f'name = "plate"\nfile = "{network.name}"\nlayout = "yolov5-face"\n'
        'labels = ["single", "double"]\n[check]\npicture = "none"\n'
    )
    finder = Detector(find([tmp_path], "plate"))
    for name, (box, plate) in PHOTOGRAPHS.items():
        wanted = task(detector="plate")
        events = seen(clip(folder, name), wanted, Boxes(box), ocr, plate_detector=finder)
        assert [each.plate[1:] for each in events if each.kind == "plate"] == [plate[1:]]
    blank = np.full((300, 600, 3), 90, np.uint8)
    assert ocr.read(blank, finder) == ()


def test_two_replays_give_the_same(folder: Path) -> None:
    """Readings come at once there, so the same file gives the same events."""
    reader = Lines(Reading("AB12CDE", 0.9))
    path = clip(folder, "2.jpg")
    first = seen(path, task(pattern="eu"), Boxes(CLOSE_UP), reader)
    assert first == seen(path, task(pattern="eu"), Boxes(CLOSE_UP), reader)
    assert [each.plate for each in first] == ["AB12CDE"] * 3


def test_off_by_default(folder: Path) -> None:
    """A task that does not ask for plates has none read."""
    spec = task().spec.model_dump(exclude={"plates"}, by_alias=True, exclude_none=True)
    reader = Lines(Reading("AB12CDE", 0.9))
    events = seen(clip(folder, "2.jpg"), parsed(spec), Boxes(CLOSE_UP), reader)
    assert reader.pictures == []
    assert {each.plate for each in events} == {""}


@pytest.mark.parametrize(
    ("wanted", "boxes"),
    [
        (task(), Boxes((0.0, 0.3, 0.4, 0.9), speed=0.011)),
        (task(**{"in": "sky"}), Boxes(CLOSE_UP)),
        (task(), Boxes((0.4, 0.4, 0.45, 0.45))),
        (task(classes="person"), Boxes(CLOSE_UP)),
    ],
    ids=["moves", "elsewhere", "small", "another class"],
)
def test_who_is_not_read(folder: Path, wanted: specs.Task, boxes: Boxes) -> None:
    """A vehicle that drives, stands outside of the zone, is too small, or is of another class."""
    reader = Lines(Reading("AB12CDE", 0.9))
    seen(clip(folder, "2.jpg"), wanted, boxes, reader)
    assert reader.pictures == []


def test_what_is_kept_is_a_pseudonym_unless_the_text_is_asked_for() -> None:
    """The same plate gives the same one, even without its province; another key gives another."""
    told = {
        keep: {
            (line, key): _told(line, key, keep)
            for line in ("藏D·T5022", "D T5022", "藏D·T5023")
            for key in (KEY, b"x" * 32)
        }
        for keep in ("hash", "text")
    }
    assert set(told["text"].values()) == {"藏DT5022", "?DT5022", "藏DT5023"}
    hashes = told["hash"]
    assert hashes["藏D·T5022", KEY] == hashes["D T5022", KEY]
    assert len(set(hashes.values())) == 4
    assert all(each.startswith("#") and len(each) == 17 for each in hashes.values())
    assert specs.Plates().keep == "hash"


def _told(line: str, key: bytes, keep: str) -> str:
    plates = Plates(task(keep=keep), 3, ("car",), key)
    events: list[Event] = []
    for look in range(60):
        events += stands(plates, look / 5)
        for ask in plates.asks():
            events += plates.answer(ask, [Reading(line, 0.9)])
    assert len(events) == 1
    assert events[0].task_revision == 3
    return events[0].plate


def stands(plates: Plates, pts_s: float) -> list[Event]:
    """A look at a car that stands, on a grey picture."""
    car = Track(1, "car", 0.9, (0.1, 0.1, 0.9, 0.9), True, 0.0, pts_s)
    grey = still(clips.grey(90, 640, 480))
    return plates.look([car], replace(grey, pts_s=pts_s, t_ms=round(pts_s * 1000)))


@pytest.mark.parametrize("field", ["masks", "blurs"])
def test_what_is_hidden_is_not_read(ocr: Ocr, folder: Path, field: str) -> None:
    """A plate in a masked or blurred area, of whichever task, never reaches the reader."""
    wanted = task()
    plates = Plates(wanted, 0, Boxes.labels, KEY)
    area = ((0.1, 0.2), (0.6, 0.2), (0.6, 0.8), (0.1, 0.8))
    plates.hidden = Hidden(**{field: (area,)})
    boxes = Boxes(CLOSE_UP)
    analysis = Analysis(wanted, 0, cast(Detector, boxes), "x", plates=plates)
    asks = []
    for frame in _frames(clip(folder, "2.jpg")):
        analysis.look(frame, boxes.detect_frame(frame))
        asks += analysis.asks()
    assert len(asks) == 1
    assert plates_of(ocr.read(asks[0].image), "any", 0.1) == []


def _frames(path: Path) -> Iterator[Frame]:
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    return frames(packets(stream), anchor=starting_at(0))


def test_an_answer_of_an_old_connection_is_nobodys() -> None:
    """After a stream was interrupted its tracks have other numbers; late readings are dropped."""
    plates = Plates(task(), 0, ("car",), KEY)
    asks = []
    for look in range(20):
        stands(plates, look / 5)
        asks += plates.asks()
    assert len(asks) == 1
    assert plates.close(4000) == []
    assert plates.answer(asks[0], [Reading("藏D·T5022", 0.9)]) == []


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line to type, and the way around."""
    monkeypatch.setattr(library, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install 'forecourt\[edge,plates\]'"):
        Ocr()


def test_classes_that_the_model_does_not_have_are_refused() -> None:
    """By the path of the field; without any class the model must have vehicles."""
    for wanted, labels, path in (
        (
            task(classes=["lorry"]),
            ("car",),
            "spec.plates.classes: model 'm' knows no class 'lorry'",
        ),
        (task(), ("person", "cat"), "spec.plates.classes: model 'm' knows no vehicle"),
    ):
        knows = cast(Detector, SimpleNamespace(labels=labels))
        with pytest.raises(specs.SpecError, match=path):
            Analysis(wanted, 0, knows, "x")
