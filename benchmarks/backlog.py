"""A backlog drains: one worker, a Mosquitto, one center on SQLite or PostgreSQL.

Three parts:
  drain   a pre-filled outbox drains as fast as it goes: events a second from the first batch's
          arrival to the last event stored, next to the bare insert rate of the same database in
          the same run (same rows, columns, indexes and transactions; no protocol).
  bytes   a smaller backlog drains through a proxy that counts bytes on the wire.
  alarm   20,000 older alarms of the same epoch drain at 128 kbit/s and 300 ms each way, while a
          new alarm begins every two seconds: from its append to its storing at the center.

    python -m benchmarks.backlog --events 200000 --json
    python -m benchmarks.backlog --postgres --json              a server of its own, durable
    FORECOURT_CENTER_DATABASE=postgresql://... python -m benchmarks.backlog --json
"""

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, func, select, text

from benchmarks import stage
from center import db
from center.tables import events, watermarks
from tests.faults import ledger, rig
from tests.faults.rig import House, Station
from tests.parts.postgres import postgres
from tests.waiting import wait_for

EVENTS = 200_000
DRAIN_WITHIN_S = 240.0
COUNTED_EVENTS = 5_000
OLD_ALARMS = 20_000
NEW_ALARMS = 20
LINE_BYTES_PER_S = 128_000 / 8
LINE_DELAY_S = 0.3
_COLUMNS = [column.name for column in events.columns if column.name != "id"]


def main() -> int:
    """0 when measured; 1 if an event was lost or doubled."""
    given = _arguments()
    stage.require_mosquitto()
    result: dict[str, Any] = {"benchmark": "backlog", "events": given.events}
    with ExitStack() as parts:
        folder = parts.enter_context(stage.folder(given))
        url = _database(given, parts)
        if url is not None:
            os.environ["FORECOURT_CENTER_DATABASE"] = url  # not a flag: it may hold a password
        result["database"] = "sqlite" if url is None else "postgresql"
        with rig.house(folder, whole=True) as house:
            if url is not None:
                house.database_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
            engine = create_engine(house.database_url)
            parts.callback(engine.dispose)
            clean = True
            if not given.skip_drain:
                clean = _drain(house, engine, given.events, result)
                result.update(_bare(folder, engine, result))
            if not given.skip_bytes:
                result.update(_counted(house))
            if not given.skip_alarm:
                result.update(_alarms(house, engine, given.old_alarms))
    stage.finish(result, given)
    return 0 if clean else 1


def _arguments() -> argparse.Namespace:
    parser = stage.parser(__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--database-url", help="postgresql://USER@HOST/NAME of an empty database")
    parser.add_argument("--postgres", action="store_true", help="start a PostgreSQL for this run")
    parser.add_argument("--old-alarms", type=int, default=OLD_ALARMS)
    parser.add_argument("--skip-drain", action="store_true")
    parser.add_argument("--skip-bytes", action="store_true")
    parser.add_argument("--skip-alarm", action="store_true")
    return parser.parse_args()


def _database(given: argparse.Namespace, parts: ExitStack) -> str | None:
    if given.postgres:
        server = parts.enter_context(postgres(durable=True))
        url: str = parts.enter_context(server.database(migrated=False))
        return url
    found: str | None = given.database_url or os.environ.get("FORECOURT_CENTER_DATABASE")
    return found


# --- drain -------------------------------------------------------------------------------------


def _drain(house: House, engine: Engine, count: int, result: dict[str, Any]) -> bool:
    """Drain a full outbox; whether everything arrived once."""
    with house.station(
        "drain", start=False, prefill=count, quota_bytes=2_000_000_000, ack_within_s=15.0
    ) as station:
        station.change(brokers=[house.broker.url])  # straight: the proxy would cost a core
        stage.say(f"filling an outbox with {count} events")
        began_s = time.monotonic()
        station.start()
        stage.say(f"filled in {time.monotonic() - began_s:.1f} s; draining")
        ended_ms = _stored_all(engine, station, count)
        result["peak_rss_mb"] = {
            "station": stage.peak_rss_mb(station.process.pid),
            "center": stage.peak_rss_mb(house.center.process.pid),
            "broker": stage.peak_rss_mb(house.broker_pid),
        }
        station.drained(60)
        verdict = house.verdict(station)
    with engine.connect() as connection:
        began_ms = connection.execute(select(func.min(events.c.received_ms))).scalar_one()
        size = connection.execute(select(func.avg(func.length(events.c.body)))).scalar_one()
    took_s = (ended_ms - began_ms) / 1000
    result.update(
        stored=verdict.stored,
        lost=verdict.lost,
        duplicated=verdict.duplicated,
        seconds=round(took_s, 2),
        events_per_s=round(count / took_s),
        event_bytes=round(float(size)),
    )
    stage.say(f"{result['events_per_s']} events a second")
    return verdict.clean


def _stored_all(engine: Engine, station: Station, count: int) -> float:
    """Wait for the last event; when that was, in UTC ms."""
    total = select(func.sum(watermarks.c.seq)).where(watermarks.c.worker == station.name)

    def stored() -> bool:
        with engine.connect() as connection:
            return (connection.execute(total).scalar() or 0) >= count

    wait_for(stored, DRAIN_WITHIN_S, f"{count} events stored", 0.05)
    return time.time() * 1000


# --- bare --------------------------------------------------------------------------------------


def _bare(folder: Path, engine: Engine, result: dict[str, Any]) -> dict[str, Any]:
    """Insert the same rows into the same kind of table, in transactions of the same size."""
    with engine.connect() as connection:
        chosen = [events.c[name] for name in _COLUMNS]
        rows = connection.execute(select(*chosen).order_by(events.c.id)).all()
    received = itemgetter(_COLUMNS.index("received_ms"))
    groups = [list(map(tuple, group)) for _, group in groupby(rows, received)]
    stage.say(f"inserting the same rows bare, in {len(groups)} transactions")
    if engine.dialect.name == "postgresql":
        took_s = _copy(engine, groups)
    else:
        took_s = _insert(folder, groups)
    bare = len(rows) / took_s
    return {
        "bare_events_per_s": round(bare),
        "bare_ratio": round(result["events_per_s"] / bare, 3),
        "events_per_transaction": round(len(rows) / len(groups)),
    }


def _insert(folder: Path, groups: list[list[tuple[Any, ...]]]) -> float:
    """SQLite: a database of its own, opened as the center opens it."""
    home = folder / "bare"
    database = db.open_sqlite(home)
    try:
        db.migrate(database)
        names, marks = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
        statement = f"INSERT INTO events ({names}) VALUES ({marks})"  # noqa: S608 - our names
        began_s = time.monotonic()
        for group in groups:
            with database.transaction() as connection:
                connection.exec_driver_sql(statement, group)
        return time.monotonic() - began_s
    finally:
        database.close()
        shutil.rmtree(home)


def _copy(engine: Engine, groups: list[list[tuple[Any, ...]]]) -> float:
    """PostgreSQL: COPY into a copy of the table with its indexes."""
    names = ", ".join(_COLUMNS)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE bare (LIKE events INCLUDING ALL)"))
    try:
        with engine.connect() as connection:
            began_s = time.monotonic()
            for group in groups:
                with connection.begin():
                    _copy_rows(connection, f"COPY bare ({names}) FROM STDIN", group)
            return time.monotonic() - began_s
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE bare"))


def _copy_rows(connection: Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


# --- bytes and alarms --------------------------------------------------------------------------


def _counted(house: House) -> dict[str, Any]:
    """Bytes on the wire of an event, by the PUBLISH packets of the event topics."""
    stage.say(f"counting the bytes of {COUNTED_EVENTS} events")
    with house.station("counted", start=False, prefill=COUNTED_EVENTS) as station:
        station.start()
        station.drained(60)
        topics = station.network.up.topics.items()
        sent = sum(size for topic, (_, size) in topics if "/ev/" in topic)
        both = station.network.total_bytes
    return {
        "bytes_per_event": round(sent / COUNTED_EVENTS, 1),
        "bytes_per_event_both_ways": round(both / COUNTED_EVENTS, 1),
    }


def _alarms(house: House, engine: Engine, old: int) -> dict[str, Any]:
    """How long new alarms take while old ones drain over a slow line."""
    stage.say(f"{old} older alarms over {LINE_BYTES_PER_S * 8 / 1000:g} kbit/s; new ones overtake")
    with house.station(
        "alarms", start=False, prefill=old, prefill_lane="alarm", lane="start", ack_within_s=15.0
    ) as station:
        for way in (station.network.up, station.network.down):
            way.delay_s, way.bytes_per_s = LINE_DELAY_S, LINE_BYTES_PER_S
        station.start()
        station.online(60)
        left = [station.status()["pending"]["alarm"]]
        station.change(rate=0.5)
        for number in range(1, NEW_ALARMS + 1):
            wait_for(lambda n=number: station.status()["generated"] >= n, 30, "a new alarm")  # type: ignore[misc]
            left.append(station.status()["pending"]["alarm"])
        station.change(rate=0.0)
        took_ms = list(_latencies(engine, station, old))
    missing = sum(took is None for took in took_ms)
    known = [took for took in took_ms if took is not None]
    return {
        "alarm_p95_ms_while_draining": stage.percentile(known, 0.95) if not missing else None,
        "alarm_median_ms_while_draining": stage.percentile(known, 0.5),
        "alarm_max_ms_while_draining": max(known, default=None),
        "alarms": len(took_ms),
        "alarms_missing": missing,
        "alarm_ms": took_ms,
        "old_alarms_left": {"at_first": left[0], "at_last": left[-1]},
    }


def _latencies(engine: Engine, station: Station, old: int) -> Iterator[int | None]:
    """Milliseconds from append to storing of each new alarm; None for one that did not come."""
    fresh = [entry for entry in ledger.entries(*station.ledgers) if entry["seq"] > old]
    one = select(events.c.received_ms - events.c.t_ms)
    for entry in fresh:
        statement = one.where(
            events.c.worker == station.name,
            events.c.epoch == entry["epoch"],
            events.c.lane == entry["lane"],
            events.c.seq == entry["seq"],
        )

        def stored(statement: Any = statement) -> list[int]:
            with engine.connect() as connection:
                return [int(found) for (found,) in connection.execute(statement)]

        try:
            yield wait_for(stored, 10, "the alarm is stored")[0]
        except AssertionError:
            yield None


if __name__ == "__main__":
    raise SystemExit(main())
