"""Presence of workers: who speaks for a worker, what was last heard, and what that means.

Here: the state that silence leads to and its cause (pure), and the rows that these stand on. Not
here: who may take the fence (fencing), what became of items (observed), messages and answers
(downlink), registration (workers).

A worker that is silent keeps its tasks: Lost is a word for operators, and moves nothing.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, update

from center import db
from center.fencing import SILENT_HEARTBEATS, Gone, Identity
from center.healing import Healing
from center.tables import presence, stations, workers
from wire import messages
from wire.messages import Bye, Deny, Heartbeat, Hello, Known, Observed, StreamHealth, Will

State = Literal["Unknown", "Online", "Autonomous", "Lost"]

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
    identity: Identity
    session: str
    software: str
    known: Known
    pending_alarm: int
    pending_bulk: int
    shed: int
    streams: tuple[StreamHealth, ...]
    denied: str
    observed_digest: str
    healing: Healing
    beat_boot_ms: int
    """The worker's boot time in the session's last heartbeat; the same one may come twice."""

    @property
    def fence(self) -> int:
        """Of the process that holds the identity."""
        return self.identity.fence

    @property
    def heard_ms(self) -> int | None:
        """The last sign of life in UTC ms; None: never."""
        return self.identity.heard_ms

    @property
    def gone(self) -> Gone:
        """How its last connection ended; '' if it did not."""
        return self.identity.gone

    @property
    def trouble(self) -> str:
        """What an operator must look at; '': nothing."""
        return "; ".join(sentence for sentence, _ in self.healing.troubles.values())

    def state(self, now_ms: int, heartbeat_s: float) -> State:
        """What its silence means now."""
        return state(self.heard_ms, now_ms, heartbeat_s, self.gone, self.autonomy_duration_s)

    def cause(self, now_ms: int, heartbeat_s: float) -> str:
        """Why it is not as it should be, as far as facts tell; '': it is."""
        if self.state(now_ms, heartbeat_s) == "Online":
            lost = [f"{each.camera}/{each.stream}" for each in self.streams if each.state == "lost"]
            return f"cameras down: {_some(lost)}" if lost else ""
        if self.denied:
            return "denied"
        if self.heard_ms is None:
            return "never heard"
        if self.gone == "bye":
            return "stopped"
        if self.gone == "will":
            return "link down"
        return "silent: it hangs, or its link is half open"


def _some(names: list[str]) -> str:
    """At most five, and how many more."""
    shown = ", ".join(sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


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
        "beat_boot_ms": 0,
        "observed_digest": messages.observed_digest([]),
        "banned_boots": "[]",
        "challenge": "",
        "replace": False,
        "repaired_digest": "",
        "asked_digest": "",
        "trouble": "{}",
    }
    db.insert_new(connection, presence, [row], ("worker",))


def of_worker(connection: Connection, worker: str, *, lock: bool = False) -> Presence | None:
    """One worker's presence; None if it is not registered. `lock` holds the row to the end."""
    statement = _ONE_LOCKED if lock else _ONE
    row = connection.execute(statement, {"of_worker": worker}).first()
    return None if row is None else _presence(row)


def hold(connection: Connection, names: Collection[str]) -> None:
    """Hold these workers' rows to the end, in one order everywhere, before any is read alone."""
    if len(names) > 1:
        for some in db.chunks(sorted(names)):
            held = select(presence.c.worker).where(presence.c.worker.in_(some))
            connection.execute(held.order_by(presence.c.worker).with_for_update())


def of_workers(connection: Connection, station: str | None = None) -> Iterator[Presence]:
    """The presence of a station's workers, or of all, by station and name."""
    statement = _SELECT.order_by(workers.c.station, workers.c.name)
    if station is not None:
        statement = statement.where(workers.c.station == station)
    return map(_presence, connection.execute(statement))


def welcome(
    connection: Connection,
    worker: str,
    hello: Hello,
    identity: Identity,
    healing: Healing,
    now_ms: int,
) -> None:
    """The hello is accepted: its session is the one that counts."""
    _set(
        connection,
        worker,
        **_identity(identity),
        **_healing(healing),
        **_known(hello.desired),
        session=hello.session,
        heard_ms=now_ms,
        gone="",
        software=hello.software,
        denied="",
        beat_boot_ms=hello.clock.boot_ms - 1,
    )


def end_sessions(connection: Connection) -> list[tuple[str, str]]:
    """Every worker is to say hello again: this may be a database that was restored from a backup,
    and what workers know better they say there. Workers and the sessions that were ended.
    """
    column = presence.c
    live = select(column.worker, column.session).where(column.session != "", column.gone == "")
    ended = [(row.worker, row.session) for row in connection.execute(live)]
    connection.execute(update(presence).where(column.session != "").values(session=""))
    return ended


def deny(connection: Connection, worker: str, deny: Deny, healing: Healing) -> None:
    """Keep the reason for operators to see."""
    _set(connection, worker, denied=f"{deny.code}: {deny.reason}", **_healing(healing))


def challenge(connection: Connection, worker: str, identity: Identity) -> None:
    """Keep the challenge that an outdated boot is to repeat."""
    _set(connection, worker, challenge=identity.challenge)


def allow_replacement(connection: Connection, worker: str) -> None:
    """Let in the next one that would be denied, as the operator says."""
    _set(connection, worker, replace=True)


def beat(
    connection: Connection, worker: str, heartbeat: Heartbeat, healing: Healing, now_ms: int
) -> None:
    """A heartbeat of the session that counts."""
    _set(
        connection,
        worker,
        **_known(heartbeat.desired),
        **_healing(healing),
        heard_ms=now_ms,
        gone="",
        pending_alarm=heartbeat.pending.get("alarm", 0),
        pending_bulk=heartbeat.pending.get("bulk", 0),
        shed=heartbeat.shed,
        beat_boot_ms=heartbeat.clock.boot_ms,
        streams=msgspec.json.encode(heartbeat.streams),
    )


def report(
    connection: Connection, worker: str, observed: Observed, healing: Healing, now_ms: int
) -> None:
    """A report of the session that counts; its items are kept elsewhere (observed)."""
    values = {**_known(observed.desired), **_healing(healing)}
    _set(connection, worker, heard_ms=now_ms, gone="", **values)


def leave(connection: Connection, worker: str, message: Will | Bye) -> None:
    """The session that counts has ended."""
    _set(connection, worker, gone="bye" if isinstance(message, Bye) else "will")


def repaired(connection: Connection, worker: str, session: str, digest: str) -> None:
    """The whole document with this digest was sent because a heartbeat of `session` differed."""
    column = presence.c
    connection.execute(
        update(presence)
        .where(column.worker == worker, column.session == session)
        .values(repaired_digest=digest)
    )


def document_changed(connection: Connection, worker: str) -> None:
    """The worker is to have another document: what was tried with the last one counts no more."""
    held = of_worker(connection, worker, lock=True)
    if held is not None:
        _set(connection, worker, **_healing(held.healing.begun_anew()))


def _set(connection: Connection, worker: str, **values: Any) -> None:
    connection.execute(_UPDATE, {"of_worker": worker, **values})


def _identity(identity: Identity) -> dict[str, Any]:
    return {
        "instance": identity.instance,
        "boot": identity.boot,
        "past_boots": json.dumps(identity.past_boots),
        "banned_boots": json.dumps(identity.banned_boots),
        "fence": identity.fence,
        "challenge": identity.challenge,
        "replace": identity.replace,
    }


def _healing(healing: Healing) -> dict[str, Any]:
    return {
        "repaired_digest": healing.repaired_digest,
        "asked_digest": healing.asked_digest,
        "trouble": json.dumps(healing.troubles),
    }


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
_ONE = _SELECT.where(workers.c.name == bindparam("of_worker"))
_ONE_LOCKED = _ONE.with_for_update(of=presence)
_UPDATE = update(presence).where(presence.c.worker == bindparam("of_worker"))
"""Made once: making them takes longer than running them."""


def _presence(row: Row[Any]) -> Presence:
    station = json.loads(row.station_document)
    return Presence(
        worker=row.worker,
        station=row.station,
        autonomy_duration_s=station.get("spec", {}).get("autonomy_duration"),
        identity=Identity(
            instance=row.instance,
            boot=row.boot,
            past_boots=tuple(json.loads(row.past_boots)),
            banned_boots=tuple(json.loads(row.banned_boots)),
            fence=row.fence,
            challenge=row.challenge,
            replace=row.replace,
            heard_ms=row.heard_ms,
            gone=row.gone,
        ),
        session=row.session,
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
        observed_digest=row.observed_digest,
        beat_boot_ms=row.beat_boot_ms,
        healing=Healing(
            repaired_digest=row.repaired_digest,
            asked_digest=row.asked_digest,
            troubles={
                sort: (sentence, since_ms)
                for sort, (sentence, since_ms) in json.loads(row.trouble).items()
            },
        ),
    )
