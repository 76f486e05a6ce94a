"""The desired document is verified before it replaces anything, and survives a restart."""

from itertools import permutations
from pathlib import Path

import msgspec
import pytest

from edge.store.check import findings
from edge.store.desired import DesiredError, DesiredStore, digest_of
from edge.store.instance import InstanceLockedError, locked
from tests.parts.clock import SteppedClock
from wire.messages import Delta, Desired, Item, Tombstone

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
    store.take(document(CAMERA))
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
    store.take(document(CAMERA))
    with pytest.raises(DesiredError, match=expected):
        store.take(wrong)
    assert [item.id for item in store.items()] == ["c1"]
    store.close()


def test_an_empty_document_that_says_so_is_obeyed(store: DesiredStore) -> None:
    """The last task of a station can be removed."""
    store.take(document(CAMERA))
    store.take(document(revision=8, empty=True))
    assert store.items() == []
    store.close()


def test_check_finds_a_changed_document(store: DesiredStore, tmp_path: Path) -> None:
    """A row that was changed behind the worker's back is found at rest."""
    store.take(document(CAMERA))
    store._connection.execute("UPDATE items SET body = '{}'")
    store.close()
    (tmp_path / "instance").touch()
    problems = [f.problem for f in findings(tmp_path)]
    assert any("digest does not fit" in problem for problem in problems)
    assert any(problem.startswith("Camera c1: kind: ") for problem in problems)


def rotten(tmp_path: Path, old: bytes, new: bytes) -> None:
    """Bytes of the closed file are not what was written; SQLite cannot see it."""
    path = tmp_path / "desired.db"
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"rtsp://h/1", b"rtsp://h/3"),
        (b"rtsp://h/1", b"rtsp://\xff/1"),
        (b"Camerac1", b"Camera\xff1"),
    ],
)
def test_a_document_that_rotted_is_asked_for_again(
    store: DesiredStore, tmp_path: Path, old: bytes, new: bytes
) -> None:
    """I5: it is told as none, so the same document comes once more and takes its place."""
    store.take(document(CAMERA))
    store.close()
    rotten(tmp_path, old, new)
    (tmp_path / "instance").touch()
    problems = [f.problem for f in findings(tmp_path)]
    assert "the document's digest does not fit its items" in problems
    again = DesiredStore(tmp_path / "desired.db", SteppedClock())
    assert (again.known().generation, again.known().revision, again.known().digest) == (1, 7, "")
    assert len(again.items()) == 1
    second = document(CAMERA, camera("b"), revision=8)
    with pytest.raises(DesiredError, match="starts from"):
        again.take(delta(document(CAMERA), second, [camera("b")], []))
    assert again.take(document(CAMERA))
    assert again.known().digest == digest_of([CAMERA])
    assert not again.take(document(CAMERA))
    again.close()
    last = DesiredStore(tmp_path / "desired.db", SteppedClock())
    assert last.known().digest == digest_of([CAMERA])
    assert [bytes(item.body) for item in last.items()] == [bytes(CAMERA.body)]
    last.close()
    assert [f for f in findings(tmp_path) if f.file == "desired.db"] == []


def test_a_folder_serves_one_worker_at_a_time(tmp_path: Path) -> None:
    """A second process is refused with a sentence; the identity stays the same afterwards."""
    refused = pytest.raises(InstanceLockedError, match="another worker process")
    with locked(tmp_path) as first, refused, locked(tmp_path):
        pass
    with locked(tmp_path) as second:
        assert first == second


def camera(name: str, revision: int = 1) -> Item:
    """Another camera."""
    body = bytes(CAMERA.body).replace(b"c1", name.encode())
    return Item(kind="Camera", id=name, revision=revision, body=msgspec.Raw(body))


def parts_of(whole: Desired, parts: int) -> list[Desired]:
    """A document in parts."""
    return [
        msgspec.structs.replace(whole, items=whole.items[part::parts], part=part + 1, parts=parts)
        for part in range(parts)
    ]


def delta(
    base: Desired, result: Desired, puts: list[Item], removed: list[Item], empty: bool = False
) -> Delta:
    """What has changed between two documents."""
    return Delta(
        session="s", generation=1, base_digest=base.digest, revision=result.revision,
        digest=result.digest, puts=puts,
        removed=[Tombstone(kind=item.kind, id=item.id) for item in removed], empty=empty,
    )  # fmt: skip


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_parts_count_in_any_order_and_more_than_once(
    store: DesiredStore, order: tuple[int, ...]
) -> None:
    """I5: nothing is replaced before the last part is here, whatever the order."""
    parts = parts_of(document(*[camera(f"c{n}") for n in range(7)]), 3)
    taken = [store.take(parts[number]) for number in (*order[:2], order[0], order[2])]
    assert taken == [False, False, False, True]
    assert [item.id for item in store.items()] == [f"c{n}" for n in range(7)]
    assert not store.take(document(*[camera(f"c{n}") for n in range(7)]))
    store.close()


def test_a_part_of_another_document_drops_the_earlier_ones(store: DesiredStore) -> None:
    """I5: parts of two documents are never mixed."""
    old = parts_of(document(camera("a"), camera("b"), revision=7), 2)
    new = parts_of(document(camera("a"), camera("c"), revision=8), 2)
    assert not store.take(old[0])
    assert not store.take(new[1])
    assert not store.take(old[1])
    assert not store.take(new[1])
    assert store.take(new[0])
    assert [item.id for item in store.items()] == ["a", "c"]
    assert not store.take(old[0])
    with pytest.raises(DesiredError, match="part 65 of 65"):
        store.take(msgspec.structs.replace(new[0], part=65, parts=65))
    store.close()


def test_a_document_that_is_too_large_is_refused(store: DesiredStore) -> None:
    """I8: what is collected of a document is bounded."""
    huge = Item(kind="Camera", id="x", revision=1, body=msgspec.Raw(b'"%s"' % (b"x" * 5_000_000)))
    one = Desired(session="s", generation=1, revision=9, digest="d", items=[huge], parts=3)
    assert not store.take(one)
    with pytest.raises(DesiredError, match="above"):
        store.take(msgspec.structs.replace(one, part=2))
    assert store._parts == {}
    store.close()


def test_a_delta_leads_from_one_document_to_the_next(store: DesiredStore) -> None:
    """I5: puts and tombstones count from the document that they name, and are heard twice."""
    first = document(CAMERA, camera("b"))
    second = document(camera("b", 2), camera("d"), revision=8)
    change = delta(first, second, [camera("b", 2), camera("d")], [CAMERA])
    store.take(first)
    assert store.take(change)
    assert [(item.id, item.revision) for item in store.items()] == [("b", 2), ("d", 1)]
    assert store.known().digest == second.digest
    assert not store.take(change)
    assert not store.take(first)
    nothing = document(revision=9, empty=True)
    with pytest.raises(DesiredError, match="does not say that it is empty"):
        store.take(delta(second, nothing, [], second.items))
    assert store.take(delta(second, nothing, [], second.items, empty=True))
    assert store.items() == []
    store.close()


def test_a_delta_from_elsewhere_changes_nothing(store: DesiredStore) -> None:
    """I5: another base, result or generation keeps the old document."""
    first = document(CAMERA)
    second = document(CAMERA, camera("b"), revision=8)
    good = delta(first, second, [camera("b")], [])
    store.take(first)
    for wrong, expected in (
        (msgspec.structs.replace(good, base_digest="0" * 32), "starts from"),
        (msgspec.structs.replace(good, digest="0" * 32), "its digest is"),
        (msgspec.structs.replace(good, generation=2), "whole document"),
        (msgspec.structs.replace(good, puts=[camera("b"), camera("b")]), "twice"),
    ):
        with pytest.raises(DesiredError, match=expected):
            store.take(wrong)
    assert store.known().digest == first.digest
    assert store.take(good)
    store.close()


def test_another_generation_may_begin_with_a_lower_revision(store: DesiredStore) -> None:
    """A restored center sends its whole document, whatever its revision."""
    store.take(document(CAMERA, revision=70))
    assert store.take(msgspec.structs.replace(document(camera("b"), revision=3), generation=2))
    assert (store.known().generation, store.known().revision) == (2, 3)
    store.close()


def test_small_facts_survive_a_restart(store: DesiredStore, tmp_path: Path) -> None:
    """What was remembered is known to the next life, and never meets the document's own facts."""
    store.remember("broker", "mqtt://a")
    store.remember("broker", "mqtt://b")
    store.remember("fence", "99")
    store.close()
    again = DesiredStore(tmp_path / "desired.db", SteppedClock())
    assert (again.fact("broker"), again.fact("other"), again.fence()) == ("mqtt://b", None, 0)
    with pytest.raises(ValueError, match="above"):
        again.remember("broker", "x" * 9000)
    again.close()
