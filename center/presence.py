"""Presence of workers: who speaks for a worker, what was last heard, and what that means.

Here: the state that silence leads to (pure), who may take the fence (pure), and the rows that both
stand on. Not here: messages and answers (downlink), registration (workers).

A worker that is silent keeps its tasks: Lost is a word for operators, and moves nothing.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, delete, select, tuple_, update

from center import db
from center.tables import observed_items, presence, stations, workers
from wire.messages import Bye, Deny, Heartbeat, Hello, Known, Observed, StreamHealth, Will

State = Literal["Unknown", "Online", "Autonomous", "Lost"]
Gone = Literal["", "will", "bye"]

SILENT_HEARTBEATS = 3
MAX_PAST_BOOTS = 8

_STREAMS = msgspec.json.Decoder(list[StreamHealth])


def state(
    heard_ms: int | None,
    now_ms: int,
    heartbeat_s: float,
    gone: Gone,
    autonomy_duration_s: float | None,
) -> State:
    """What a worker's silence means; `gone` is how its last connection ended, '' if it did not."""
    if heard_ms is None:
        return "Unknown"
    silent_s = (now_ms - heard_ms) / 1000
    if not gone and silent_s <= SILENT_HEARTBEATS * heartbeat_s:
        return "Online"
    if autonomy_duration_s is not None and silent_s > autonomy_duration_s:
        return "Lost"
    return "Autonomous"


@dataclass(frozen=True, slots=True)
class Presence:
    """What was last heard of one registered worker."""

    worker: str
    station: str
    autonomy_duration_s: float | None
    instance: str
    boot: str
    past_boots: tuple[str, ...]
    session: str
    fence: int
    heard_ms: int | None
    gone: Gone
    software: str
    known: Known
    pending_alarm: int
    pending_bulk: int
    shed: int
    streams: tuple[StreamHealth, ...]
    denied: str

    def state(self, now_ms: int, heartbeat_s: float) -> State:
        """What its silence means now."""
        return state(self.heard_ms, now_ms, heartbeat_s, self.gone, self.autonomy_duration_s)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a hello is not accepted, in words that say what to do."""

    code: Literal["fenced"]
    reason: str
    retry_after_s: float


def judge(held: Presence, hello: Hello, now_ms: int, heartbeat_s: float) -> int | Refusal:
    """The fence that this hello gets, or why it gets none.

    The same boot keeps its fence, so a hello may be said twice. A new boot of the same data folder
    outdates the last. A boot that was outdated and speaks again is a second living process, and
    another data folder is a second device: neither may take over from one that is heard.
    """
    risen = max(held.fence, hello.fence) + 1
    if held.instance == hello.instance:
        if held.boot == hello.boot:
            return max(held.fence, hello.fence)
        if hello.boot in held.past_boots:
            return Refusal(
                "fenced",
                f"a newer agent of worker {held.worker} with a copy of the same data folder has "
                "taken over; stop one of the two, and give the other a worker name and an empty "
                "data folder of its own",
                60.0,
            )
        return risen
    if not held.instance or held.gone == "bye" or held.heard_ms is None:
        return risen
    wait_s = SILENT_HEARTBEATS * heartbeat_s - (now_ms - held.heard_ms) / 1000
    if wait_s < 0:
        return risen
    return Refusal(
        "fenced",
        f"another device speaks as worker {held.worker}; stop it, and this one is accepted when it "
        f"has been silent for {SILENT_HEARTBEATS} heartbeats",
        max(1.0, wait_s),
    )


# --- rows --------------------------------------------------------------------------------------


def begin(connection: Connection, worker: str) -> None:
    """A new worker's row: never heard."""
    row = {
        "worker": worker,
        "instance": "",
        "boot": "",
        "past_boots": "[]",
        "session": "",
        "fence": 0,
        "heard_ms": None,
        "gone": "",
        "software": "",
        "known_generation": 0,
        "known_revision": 0,
        "known_digest": "",
        "pending_alarm": 0,
        "pending_bulk": 0,
        "shed": 0,
        "streams": b"[]",
        "denied": "",
    }
    db.insert_new(connection, presence, [row], ("worker",))


def of_worker(connection: Connection, worker: str, *, lock: bool = False) -> Presence | None:
    """One worker's presence; None if it is not registered. `lock` holds the row to the end."""
    statement = _SELECT.where(workers.c.name == worker)
    if lock:
        statement = statement.with_for_update(of=presence)
    row = connection.execute(statement).first()
    return None if row is None else _presence(row)


def of_workers(connection: Connection, station: str | None = None) -> Iterator[Presence]:
    """The presence of a station's workers, or of all, by station and name."""
    statement = _SELECT.order_by(workers.c.station, workers.c.name)
    if station is not None:
        statement = statement.where(workers.c.station == station)
    return map(_presence, connection.execute(statement))


def welcome(connection: Connection, held: Presence, hello: Hello, fence: int, now_ms: int) -> None:
    """The hello is accepted: its session is the one that counts."""
    past = held.past_boots
    if hello.instance != held.instance:
        past = ()
    elif held.boot and hello.boot != held.boot:
        past = (*past, held.boot)[-MAX_PAST_BOOTS:]
    _set(
        connection,
        held.worker,
        instance=hello.instance,
        boot=hello.boot,
        past_boots=json.dumps(past),
        session=hello.session,
        fence=fence,
        heard_ms=now_ms,
        gone="",
        software=hello.software,
        denied="",
        **_known(hello.desired),
    )


def deny(connection: Connection, worker: str, deny: Deny) -> None:
    """Keep the reason for operators to see."""
    _set(connection, worker, denied=f"{deny.code}: {deny.reason}")


def beat(connection: Connection, worker: str, heartbeat: Heartbeat, now_ms: int) -> None:
    """A heartbeat of the session that counts."""
    _set(
        connection,
        worker,
        heard_ms=now_ms,
        gone="",
        pending_alarm=heartbeat.pending.get("alarm", 0),
        pending_bulk=heartbeat.pending.get("bulk", 0),
        shed=heartbeat.shed,
        streams=msgspec.json.encode(heartbeat.streams),
        **_known(heartbeat.desired),
    )


def leave(connection: Connection, worker: str, message: Will | Bye) -> None:
    """The session that counts has ended."""
    _set(connection, worker, gone="bye" if isinstance(message, Bye) else "will")


def observe(
    connection: Connection,
    worker: str,
    observed: Observed,
    wanted: set[tuple[str, str]],
    now_ms: int,
) -> None:
    """What became of the items; of those that are not `wanted` nothing is kept."""
    _set(connection, worker, heard_ms=now_ms, gone="", **_known(observed.desired))
    rows = {
        (item.kind, item.id): {
            "worker": worker,
            "kind": item.kind,
            "id": item.id,
            "revision": item.revision,
            "state": item.state,
            "reason": item.reason[:1000].replace("\0", "?"),
            "observed_ms": now_ms,
        }
        for item in observed.items
        if (item.kind, item.id) in wanted
    }
    db.upsert(connection, observed_items, list(rows.values()), ("worker", "kind", "id"))


def forget(connection: Connection, worker: str, items: Iterable[tuple[str, str]]) -> None:
    """What was observed of these items, by (kind, id), is of no more interest."""
    place = tuple_(observed_items.c.kind, observed_items.c.id)
    connection.execute(
        delete(observed_items).where(observed_items.c.worker == worker, place.in_(list(items)))
    )


def _set(connection: Connection, worker: str, **values: Any) -> None:
    connection.execute(update(presence).where(presence.c.worker == worker).values(**values))


def _known(known: Known) -> dict[str, Any]:
    return {
        "known_generation": known.generation,
        "known_revision": known.revision,
        "known_digest": known.digest,
    }


_SELECT = (
    select(presence, workers.c.station, stations.c.document.label("station_document"))
    .join(workers, workers.c.name == presence.c.worker)
    .join(stations, stations.c.name == workers.c.station)
)


def _presence(row: Row[Any]) -> Presence:
    station = json.loads(row.station_document)
    return Presence(
        worker=row.worker,
        station=row.station,
        autonomy_duration_s=station.get("spec", {}).get("autonomy_duration"),
        instance=row.instance,
        boot=row.boot,
        past_boots=tuple(json.loads(row.past_boots)),
        session=row.session,
        fence=row.fence,
        heard_ms=row.heard_ms,
        gone=row.gone,
        software=row.software,
        known=Known(
            generation=row.known_generation,
            revision=row.known_revision,
            digest=row.known_digest,
        ),
        pending_alarm=row.pending_alarm,
        pending_bulk=row.pending_bulk,
        shed=row.shed,
        streams=tuple(_STREAMS.decode(row.streams)),
        denied=row.denied,
    )
