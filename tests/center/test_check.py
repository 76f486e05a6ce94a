"""`check`: silent on a sound database, and pointing at each kind of damage."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, delete, text, update

from center import check
from center.tables import clocks, desired, desired_items, events, gaps, meta, tasks, watermarks
from tests.parts.centers import SQLITE_ONLY, Rig, furnish
from tests.parts.workers import Voice, crossing, crossings
from wire.events import Gap


def fill(center: Rig) -> None:
    """A database with everything in it."""
    furnish(center.desk, "t1", "t2")
    center.hear("w1", "hello", Voice().hello())
    voice = Voice(fence=1)
    center.hear("w1", "ev/bulk", voice.batch(1, [*crossings(5), b'{"kind":1}', crossing(7)]))
    shed = [Gap(first=8, last=20, why="shed")]
    center.hear("w1", "ev/bulk", voice.batch(21, crossings(2, first=21), gaps=shed))
    center.hear("w1", "ev/alarm", voice.batch(1, crossings(2), lane="alarm", epoch=5))


def found(center: Rig) -> list[tuple[str, str]]:
    return [(one.invariant, one.what) for one in check.check(center.database)]


def test_a_sound_database_has_no_findings(center: Rig) -> None:
    """Nothing is found where nothing is wrong, empty or full."""
    assert found(center) == []
    fill(center)
    assert found(center) == []


Damage = Callable[[Connection], object]


@pytest.mark.parametrize(
    ("damage", "invariant", "hint"),
    [
        (lambda c: c.execute(delete(events).where(events.c.seq == 3)), "I3", "3 is neither"),
        (lambda c: c.execute(delete(gaps).where(gaps.c.why == "shed")), "I3", "8 is neither"),
        (lambda c: c.execute(delete(events).where(events.c.lane == "alarm")), "I3", "lane alarm"),
        (lambda c: c.execute(update(watermarks).values(seq=99)), "I3", "is 99"),
        (lambda c: c.execute(update(events).values(at_ms=7)), "times", "10 events"),
        (lambda c: c.execute(update(clocks).values(booted_ms=2**60)), "times", "before it booted"),
        (lambda c: c.execute(update(desired).values(digest="x")), "I5", "digest is wrong"),
        (
            lambda c: c.execute(update(desired_items).values(body=b"{}")),
            "I5",
            "not what its hash says",
        ),
        (lambda c: c.execute(delete(tasks).where(tasks.c.name == "t1")), "I5", "tasks ask for"),
        (lambda c: c.execute(update(meta).values(revision=0)), "I5", "counter says 0"),
        (lambda c: c.execute(update(tasks).values(document=b"{")), "documents", "no JSON"),
        (
            lambda c: c.execute(update(tasks).values(document=b'{"kind":"Task"}')),
            "documents",
            "cannot be read",
        ),
        (
            lambda c: c.execute(text("UPDATE alembic_version SET version_num = 'old'")),
            "version",
            "version old",
        ),
    ],
)
def test_damage_is_found(center: Rig, damage: Damage, invariant: str, hint: str) -> None:
    """Each kind of damage is named by its invariant, with what to do."""
    fill(center)
    with center.database.transaction() as connection:
        damage(connection)
    findings = list(check.check(center.database))
    assert any(one.invariant == invariant and hint in one.what for one in findings), findings
    assert all(one.do for one in findings)


STORE_TWICE = {
    "sqlite": (
        "CREATE TABLE copied AS SELECT * FROM events",
        "INSERT INTO copied SELECT * FROM events WHERE seq = 2 AND lane = 'bulk'",
        "DROP TABLE open_incidents",
        "CREATE TABLE open_incidents (worker, incident)",
        "DROP TABLE events",
        "ALTER TABLE copied RENAME TO events",
    ),
    "postgresql": (
        "ALTER TABLE events DROP CONSTRAINT uq_events_worker_epoch_lane_seq",
        "CREATE TEMP TABLE copied ON COMMIT DROP AS"
        " SELECT * FROM events WHERE seq = 2 AND lane = 'bulk'",
        "UPDATE copied SET id = 1000",
        "INSERT INTO events SELECT * FROM copied",
    ),
}


def test_an_event_stored_twice_is_found(center: Rig) -> None:
    """I2, where the table's own constraint was lost."""
    fill(center)
    with center.database.transaction() as connection:
        for statement in STORE_TWICE[connection.dialect.name]:
            connection.execute(text(statement))
    kinds = {(invariant, what.partition(":")[0]) for invariant, what in found(center)}
    assert ("I2", "an event is stored twice") in kinds


@SQLITE_ONLY
def test_a_damaged_file_is_found(center: Rig) -> None:
    """Bytes that changed under the database are told as damage."""
    fill(center)
    center.database.close()
    path = center.folder / "center.db"
    content = bytearray(path.read_bytes())
    for page in range(8, len(content) // 4096):
        content[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(content)
    assert found(center)[0][0] == "file"
