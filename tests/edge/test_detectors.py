"""The networks of a decode process: waited for, exchanged while in use, refused, freed."""

import gc
import shutil
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.detectors import AwaitedModelError, Detectors
from edge.pipe import Given, Settings, Supply, Withheld
from edge.vision.detect import Detector
from edge.vision.manifest import ModelError
from tests.waiting import wait_for
from wire.manifest import parse
from wire.models import Published, canonical

NANO = Path(__file__).parents[2] / "models" / "forecourt-nano"
TOLD = parse((NANO / "model.toml").read_bytes())
FILE = (NANO / "model.onnx").read_bytes()


def given(path: Path = NANO / "model.onnx", version: str = "1") -> Given:
    told = TOLD.model_dump(exclude_defaults=True) | {"name": "yard", "version": version}
    return Given("yard", str(path), canonical(Published.model_validate(told)))


@dataclass
class Desk:
    """Detectors, and what they told."""

    detectors: Detectors
    renewed: list[str] = field(default_factory=list)
    objection: str = ""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    settings = Settings(models=(str(tmp_path),), boot="b", threads=1, log_level="info")
    made = Desk(Detectors(settings, SystemClock(), lambda name: made.renewed.append(name)))
    made.detectors.objection = lambda _name, _detector: made.objection
    return made


def loading_ended() -> bool:
    return not any(thread.name.startswith("load-") for thread in threading.enumerate())


def met(condition: Callable[[], object], what: str) -> None:
    wait_for(condition, 20, what)


def test_a_model_is_waited_for_and_then_loaded(desk: Desk) -> None:
    """Until the center's is here, the text says how far it is; it goes before the worker's own."""
    detectors = desk.detectors
    with pytest.raises(ModelError, match="is not in"):
        detectors.get("yard")
    changed = detectors.supplied(Supply(withheld=(Withheld("yard", "fetching 40 %", False),)))
    assert changed == {"yard"}
    with pytest.raises(AwaitedModelError, match="40 %"):
        detectors.get("yard")
    assert detectors.supplied(Supply((given(),))) == {"yard"}
    assert detectors.get("yard").labels == TOLD.labels
    assert detectors.supplied(Supply((given(),))) == set()


def test_a_model_that_is_no_good_is_not_waited_for(desk: Desk) -> None:
    """Its task is told the reason."""
    hopeless = Withheld("yard", "it finds nothing", True)
    desk.detectors.supplied(Supply(withheld=(hopeless,)))
    with pytest.raises(ModelError, match="it finds nothing") as refused:
        desk.detectors.get("yard")
    assert not isinstance(refused.value, AwaitedModelError)


def test_another_version_takes_the_place_of_the_one_before(desk: Desk) -> None:
    """It is loaded on a thread of its own; the old one is there until then, and freed after."""
    detectors = desk.detectors
    detectors.supplied(Supply((given(),)))
    old: Detector | None = detectors.get("yard")
    gone = weakref.ref(detectors.get("yard"))
    detectors.supplied(Supply((given(version="2"),)))
    met(lambda: desk.renewed == ["yard"], "another one")
    assert detectors.current("yard") is not old
    assert detectors.get("yard") is detectors.current("yard")
    old = None
    met(lambda: gc.collect() >= 0 and gone() is None, "the old one is freed")
    detectors.keep(["another"])
    assert detectors.current("yard") is None


def test_one_that_cannot_be_loaded_leaves_the_old_one(desk: Desk, tmp_path: Path) -> None:
    """The agent is told why, until it supplies another one."""
    detectors = desk.detectors
    detectors.supplied(Supply((given(),)))
    old = detectors.get("yard")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"none")
    detectors.supplied(Supply((given(broken, "2"),)))
    met(detectors.refused, "it is refused")
    ((name, document, why),) = detectors.refused()
    assert (name, document) == ("yard", given(broken, "2").document)
    assert "broken.onnx" in why
    assert detectors.current("yard") is old
    detectors.supplied(Supply((given(),)))
    assert detectors.refused() == ()
    desk.objection = "task t: it knows no van"
    detectors.supplied(Supply((given(version="3"),)))
    met(detectors.refused, "it is refused too")
    assert "van" in detectors.refused()[0][2]
    assert detectors.current("yard") is old
    assert desk.renewed == []


def test_a_file_that_is_replaced_in_a_folder_is_noticed(desk: Desk, tmp_path: Path) -> None:
    """Once it lies still it is tried and taken; what is no good is told and leaves the old one."""
    detectors = desk.detectors
    folder = tmp_path / "forecourt-nano"
    shutil.copytree(NANO, folder)
    old = detectors.get("forecourt-nano")
    detectors.look_at_folders()
    assert desk.renewed == []

    def written(content: bytes) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_bytes(content)
        fresh.replace(folder / "model.onnx")
        detectors.look_at_folders()
        assert desk.renewed == [] or detectors.note("forecourt-nano")
        detectors.look_at_folders()

    written(b"none")
    met(lambda: detectors.note("forecourt-nano"), "a note")
    assert "the one before goes on" in detectors.note("forecourt-nano")
    assert detectors.current("forecourt-nano") is old
    detectors.look_at_folders()
    detectors.look_at_folders()
    met(loading_ended, "nothing is loaded again")
    written(FILE)
    met(lambda: detectors.note("forecourt-nano") == "", "the good one is taken")
    assert detectors.current("forecourt-nano") is not old


def test_the_centers_model_follows_the_workers_own(desk: Desk, tmp_path: Path) -> None:
    """While the center's is fetched, the worker's own of that name goes on; then it goes."""
    shutil.copytree(NANO, tmp_path / "yard")
    toml = tmp_path / "yard" / "model.toml"
    toml.write_text(toml.read_text().replace('"forecourt-nano"', '"yard"', 1))
    detectors = desk.detectors
    detectors.supplied(Supply(withheld=(Withheld("yard", "fetching", False),)))
    own = detectors.get("yard")
    detectors.supplied(Supply((given(),)))
    met(lambda: desk.renewed == ["yard"], "the center's is taken")
    assert detectors.current("yard") is not own
