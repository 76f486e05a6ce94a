"""The desired document is verified before it replaces anything, and survives a restart."""

from pathlib import Path

import msgspec
import pytest

from edge.store.check import findings
from edge.store.desired import DesiredError, DesiredStore, digest_of
from edge.store.instance import InstanceLockedError, locked
from tests.parts.clock import SteppedClock
from wire.messages import Desired, Item

CAMERA = Item(
    kind="Camera", id="c1", revision=3,
    body=msgspec.Raw(
        b'{"kind": "Camera","metadata":{"name":"c1","station":"s"},'
        b'"spec":{"streams":{"main":{"url":"rtsp://h/1"}}}}'
    ),
)  # fmt: skip


def document(*items: Item, revision: int = 7, empty: bool = False) -> Desired:
    """A sound document."""
    return Desired(
        session="s", generation=1, revision=revision, digest=digest_of(list(items)),
        items=list(items), empty=empty,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> DesiredStore:
    """A fresh store."""
    return DesiredStore(tmp_path / "desired.db", SteppedClock())


def test_a_document_is_kept_byte_for_byte(store: DesiredStore, tmp_path: Path) -> None:
    """C1: after a restart the same bytes, revision and digest are there."""
    store.replace(document(CAMERA))
    store.raise_fence(9)
    store.raise_fence(4)
    store.close()
    again = DesiredStore(tmp_path / "desired.db", SteppedClock())
    assert [bytes(item.body) for item in again.items()] == [bytes(CAMERA.body)]
    assert (again.known().generation, again.known().revision) == (1, 7)
    assert again.known().digest == digest_of([CAMERA])
    assert again.fence() == 9
    again.close()
    (tmp_path / "instance").touch()
    assert [f for f in findings(tmp_path) if f.file == "desired.db"] == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (document(), "does not say that it is empty"),
        (msgspec.structs.replace(document(CAMERA), digest="0" * 32), "its digest is"),
        (document(CAMERA, CAMERA), "twice"),
    ],
)
def test_a_doubtful_document_replaces_nothing(
    store: DesiredStore, wrong: Desired, expected: str
) -> None:
    """An unsaid emptiness, a digest that does not fit, an item named twice: the old one stays."""
    store.replace(document(CAMERA))
    with pytest.raises(DesiredError, match=expected):
        store.replace(wrong)
    assert [item.id for item in store.items()] == ["c1"]
    store.close()


def test_an_empty_document_that_says_so_is_obeyed(store: DesiredStore) -> None:
    """The last task of a station can be removed."""
    store.replace(document(CAMERA))
    store.replace(document(revision=8, empty=True))
    assert store.items() == []
    store.close()


def test_check_finds_a_changed_document(store: DesiredStore, tmp_path: Path) -> None:
    """A row that was changed behind the worker's back is found at rest."""
    store.replace(document(CAMERA))
    store._connection.execute("UPDATE items SET body = '{}'")
    store.close()
    (tmp_path / "instance").touch()
    problems = [f.problem for f in findings(tmp_path)]
    assert any("digest does not fit" in problem for problem in problems)
    assert any(problem.startswith("Camera c1: kind: ") for problem in problems)


def test_a_folder_serves_one_worker_at_a_time(tmp_path: Path) -> None:
    """A second process is refused with a sentence; the identity stays the same afterwards."""
    refused = pytest.raises(InstanceLockedError, match="another worker process")
    with locked(tmp_path) as first, refused, locked(tmp_path):
        pass
    with locked(tmp_path) as second:
        assert first == second
