"""The outbox's one writing thread: group commit, and what is done when the disk fails.

Here: when a transaction begins, who hears of it, a full disk, a damaged file. Not here: what a
transaction writes (transaction), what others ask (outbox, lanes).

Whatever waits when the thread comes round goes into one transaction, and a caller's future resolves
after that commit. Watermarks are written in groups: until then the disk holds more than it must.
"""

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.store import roster, sqlite, tables
from edge.store.ballast import Ballast
from edge.store.lanes import Lanes
from edge.store.reader import Reader
from edge.store.salvage import salvage
from edge.store.tables import Stored
from edge.store.transaction import Append, Now, Refuse, Setting, Transaction

log = logging.getLogger("forecourt.outbox")

_MAX_WAITING = 10_000
_GROUP_EVENTS = 2000
_GROUP_BYTES = 1024 * 1024
_SAVE_NUMBERS = 2000
_SAVE_WITHIN_S = 30.0
_LOOK_S = 5.0
"""How often an idle thread looks whether watermarks have waited long enough."""
_KEEP_ASIDE = 3
"""Damaged files that are kept as evidence."""
_RELIEVE_BYTES = 256 * 1024
_RELIEVE_TIMES = 8
_MAX_PAGES = 2**31 - 2


@dataclass(frozen=True, slots=True)
class Renew:
    """The next event begins a new epoch."""


@dataclass(frozen=True, slots=True)
class Save:
    """Watermarks are to be written now."""


@dataclass(frozen=True, slots=True)
class Mend:
    """A reader has met damage."""

    reader: int
    """Which file it read: one that was replaced meanwhile needs no mending."""
    error: str


Work = Append | Refuse | Renew | Save | Mend


class Writer:
    """The writing connection and its thread."""

    def __init__(
        self,
        path: Path,
        setting: Setting,
        *,
        ballast_bytes: int,
        on_stored: Callable[[list[Stored]], None],
    ) -> None:
        self._path = path
        self._setting = setting
        self._on_stored = on_stored
        self._wal_bytes = min(ballast_bytes // 2, 4 * 1024 * 1024) or 4 * 1024 * 1024
        self._ballast = Ballast(path.with_name("ballast"), ballast_bytes)
        self._roster = path.with_name(path.name + ".lanes")
        self._tight = False
        """Whether the disk was found full: the file may not grow until there is room again."""
        self._broken = ""
        """Why the file must be mended before anything is written."""
        self._ready = path.with_name(path.name + ".salvaged")
        self._salvaged = False
        """Whether a salvaged file is in place, and could not be opened yet."""
        self._known_open: dict[str, Stored] | None = None
        """Open incidents as they were known before a mend, until they are on disk again."""
        self.lanes = Lanes()
        self.open_incidents: dict[str, Stored] = {}
        """The latest event of each open incident; under the lock of `lanes`."""
        self._now = Now(0, {}, None, tables.Totals())
        self._unsaved_since_s: float | None = None
        self._save_asked = False
        self._work: queue.Queue[Work | None] = queue.Queue(_MAX_WAITING)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = self._open()
        self.reader = Reader(path, self._met_damage)
        self._ballast.load()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    # --- any thread ---

    @property
    def shed(self) -> int:
        """Events given up since the process began."""
        return self._now.totals.shed

    @property
    def current(self) -> tuple[int, dict[str, int]]:
        """The epoch of this process, 0 before its first event, and its highest numbers."""
        with self.lanes.lock:
            return self._now.epoch, {str(lane): high for lane, high in self._now.high.items()}

    def do(self, work: Work) -> None:
        """Hand something over; waits where too much is waiting already."""
        self._work.put(work)

    def watermark_moved(self) -> None:
        """Write watermarks soon if many numbers were acknowledged. Never waits."""
        if self.lanes.unsaved_numbers >= _SAVE_NUMBERS and not self._save_asked:
            self._save_asked = True
            try:
                self._work.put_nowait(Save())
            except queue.Full:  # then the thread is busy, and looks by itself
                self._save_asked = False

    def close(self) -> None:
        """Write what was handed over, then close the file."""
        self._work.put(None)
        self._thread.join()
        self.reader.close()
        self._db.close()

    def _met_damage(self, reader: int, error: str) -> None:
        with suppress(queue.Full):  # then it is met again
            self._work.put_nowait(Mend(reader, error))

    # --- opening, and mending what is damaged ---

    def _open(self) -> sqlite3.Connection:
        """The file as it is, or what can be saved of it."""
        self._place_salvaged()
        lost = not self._path.exists() or not self._path.stat().st_size
        if lost and roster.read(self._roster):
            return self._salvage("it is gone")
        try:
            return self._load_with_room()
        except sqlite.CorruptError as error:
            return self._salvage(str(error))

    def _load_with_room(self) -> sqlite3.Connection:
        try:
            return self._load()
        except (sqlite3.Error, OSError) as error:
            if not sqlite.is_full(error) or not self._ballast.release():
                raise
            return self._load()

    def _load(self) -> sqlite3.Connection:
        connection = sqlite.open_writer(self._path, "", wal_bytes=self._wal_bytes)
        try:
            connection.text_factory = sqlite.readable
            moved = tables.migrate(connection)
            if moved:
                log.info("outbox brought to version %d: %d events", tables.VERSION, moved)
            connection.executescript(tables.SCHEMA)
            if self._tight:
                _keep_size(connection)
            self._adopt(tables.load(connection))
        except BaseException as error:
            connection.close()
            if sqlite.is_nonsense(error) or isinstance(error, tables.NONSENSE):
                raise sqlite.CorruptError(f"{self._path}: {error}") from None
            raise
        return connection

    def _adopt(self, contents: tables.Contents) -> None:
        """Keep in memory what was read from the file."""
        contents.totals.shed = self.shed
        with self.lanes.lock:
            self.lanes.adopt(contents.lanes)
            self.open_incidents = contents.open_incidents
            self._now = Now(0, {}, self._now.offset_ms, contents.totals)
        roster.write(self._roster, self.lanes.may_hold())

    def _salvage(self, reason: str) -> sqlite3.Connection:
        """Put a fresh file in place, with all that is sound in the damaged one.

        One that was made earlier and could not be put in place or opened then is not made again.
        """
        if self._place_salvaged() or self._salvaged:
            return self._load_salvaged()
        log.error("outbox damaged (%s); saving what can be read", reason)
        known = roster.read(self._roster)
        fresh = self._path.with_name(self._path.name + ".fresh")
        damaged = source = self._path if self._path.exists() else None
        while True:
            sqlite.remove(fresh)
            try:
                with closing(
                    sqlite.open_writer(fresh, tables.SCHEMA, wal_bytes=self._wal_bytes)
                ) as connection:
                    saved = salvage(source, connection, known)
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                break
            except Exception as error:  # whatever it was: the worker must go on
                if sqlite.is_full(error) and self._ballast.release():
                    self._tight = True
                    continue
                if sqlite.is_full(error) and self._broken:
                    raise  # at work it is tried again; a start must not fail
                if source is None:
                    raise
                log.error("nothing can be saved (%s); all of it becomes gaps", error)
                source = None
        fresh.replace(self._ready)
        if damaged is not None:
            aside = sqlite.set_aside(self._path, self._setting.clock.wall_ms(), keep=_KEEP_ASIDE)
            log.error("set aside as %s", aside.name)
        self._place_salvaged()
        log.error("saved %d events; the rest is in %d gaps", saved.events, saved.gaps)
        return self._load_salvaged()

    def _place_salvaged(self) -> bool:
        """Put a complete salvaged file in the place of the damaged one, once that is away."""
        if self._path.exists() or not self._ready.exists():
            return False
        sqlite.remove(self._path)  # journals that stayed behind would be taken for the new file's
        self._ready.replace(self._path)
        return True

    def _load_salvaged(self) -> sqlite3.Connection:
        self._salvaged = True
        try:
            connection = self._load_with_room()
        except sqlite.CorruptError:
            self._salvaged = False
            raise
        self._salvaged = False
        return connection

    def _mend(self, reason: str) -> None:
        """The file was found damaged while it was in use. What fails is tried again later."""
        self._broken = reason
        if self._known_open is None:
            self._known_open = self.open_incidents
        with self.reader.replaced():
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = self._salvage(reason)
        self._broken = ""
        if self._tight:
            self._grow_again()

    def _reopen_incidents(self, known: dict[str, Stored]) -> None:
        """What memory knows of open incidents is better than what a damaged file says."""
        with self._begun() as transaction:
            transaction.replace_incidents(known)
        self._known_open = None

    # --- the thread ---

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._gathered()
            self._commit(group)

    def _gathered(self) -> tuple[list[Work], bool]:
        """What waits, or nothing after a while; whether it is the last."""
        group: list[Work] = []
        events = size_bytes = 0
        try:
            following = self._work.get(timeout=_LOOK_S)
            while following is not None:
                group.append(following)
                if isinstance(following, Append):
                    events += len(following.events)
                    size_bytes += following.size_bytes
                if events >= _GROUP_EVENTS or size_bytes >= _GROUP_BYTES:
                    return group, False
                following = self._work.get_nowait()
        except queue.Empty:
            return group, False
        return [*group, Save()], True

    def _commit(self, group: Sequence[Work]) -> None:
        """One transaction for all that waits; each future hears of the same commit.

        Whatever goes wrong: the writer lives on, and nobody waits in vain.
        """
        try:
            if group:
                self._store(group)
            elif self._tight or self._broken or self._save_due([]):
                self._store([Save()])
        except Exception as error:
            log.exception("outbox cannot write")
            _fail(group, error)

    def _store(self, group: Sequence[Work]) -> None:
        # A caller that has given up waiting is not told, and its events are not stored.
        alive = [
            work for work in group
            if not isinstance(work, Append) or work.future.set_running_or_notify_cancel()
        ]  # fmt: skip
        if self._tight and not self._broken:
            self._grow_again()
        pieces = [[work] for work in alive] if self._tight else [alive]
        for piece in pieces:
            try:
                answers = self._persist(piece)
            except Exception as error:  # those that follow may fare better
                log.error("outbox cannot write: %s", error)
                _fail(piece, error)
                continue
            for work, stored in answers:
                work.future.set_result(stored)
            if answers:
                self._tell([row for _, stored in answers for row in stored])

    def _tell(self, stored: list[Stored]) -> None:
        try:
            self._on_stored(stored)
        except Exception:  # they are on disk and confirmed, whoever cannot hear of it
            log.exception("what was stored could not be told")

    def _persist(self, group: Sequence[Work]) -> list[tuple[Append, list[Stored]]]:
        """Commit, with whatever that takes: mending a damaged file, finding room on a full disk."""
        mended, relieved = False, 0
        while True:
            try:
                return self._transact(group)
            except (sqlite3.Error, OSError) as error:
                if sqlite.is_corrupt(error) and not mended:
                    mended = True
                    self._mend(str(error))
                elif sqlite.is_full(error) and not self._broken and relieved < _RELIEVE_TIMES:
                    relieved += 1
                    if not self._relieve(error):
                        raise
                else:
                    raise

    def _transact(self, group: Sequence[Work]) -> list[tuple[Append, list[Stored]]]:
        answers: list[tuple[Append, list[Stored]]] = []
        if self._broken:
            self._mend(self._broken)
        for work in group:
            if isinstance(work, Mend) and work.reader == self.reader.number:
                self._mend(work.error)
        if self._known_open is not None:
            self._reopen_incidents(self._known_open)
        with self._begun() as transaction:
            if self._save_due(group):
                self._save_asked, self._unsaved_since_s = False, None
                transaction.save()
                transaction.forget()
            for work in group:
                match work:
                    case Append():
                        answers.append((work, transaction.append(work)))
                    case Refuse():
                        transaction.refuse(work)
                    case Renew():
                        transaction.renew()
                    case Save() | Mend():
                        pass
        return answers

    @contextmanager
    def _begun(self) -> Iterator[Transaction]:
        """A transaction that is committed and told to memory at the end, or undone."""
        self._db.execute("BEGIN IMMEDIATE")
        transaction = Transaction(
            self._db, self._setting, self._now, self.lanes, self.open_incidents
        )
        try:
            yield transaction
            if transaction.may_hold:
                roster.add(self._roster, transaction.may_hold)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):  # the first error tells more
                    self._db.execute("ROLLBACK")
            raise
        transaction.publish()

    def _save_due(self, group: Sequence[Work]) -> bool:
        """Whether watermarks are to be written now."""
        if any(isinstance(work, Save) for work in group):
            return True
        if self.lanes.unsaved_numbers >= _SAVE_NUMBERS:
            return True
        now_s = self._setting.clock.monotonic_s()
        if self._unsaved_since_s is None or not self.lanes.has_unsaved:
            self._unsaved_since_s = now_s if self.lanes.has_unsaved else None
            return False
        return now_s - self._unsaved_since_s >= _SAVE_WITHIN_S

    # --- a full disk ---

    def _relieve(self, error: BaseException) -> bool:
        """Find room: the ballast first, then events in the order of loss. False if there is none.

        From then on the file may not grow, so that a checkpoint never needs room.
        """
        if not self._tight:
            log.error(
                "the disk is full (%s); events are kept in the room that the outbox has", error
            )
            self._tight = True
            self._ballast.release()
            self._checkpoint()
            _keep_size(self._db)
            return True
        self._checkpoint()
        with self._begun() as transaction:
            return transaction.relieve(_RELIEVE_BYTES)

    def _grow_again(self) -> None:
        """Once there is room, the ballast is made again and the file may grow."""
        if not self._ballast.load():
            return
        try:
            self._db.execute(f"PRAGMA max_page_count = {_MAX_PAGES}")
        except sqlite3.Error as error:  # what is written next meets it too, and knows what to do
            log.error("the outbox may not grow yet: %s", error)
            return
        self._tight = False
        log.warning("the disk has room again")

    def _checkpoint(self) -> None:
        """Bring the log into the file, so that its room serves once more."""
        with self.reader.paused():
            try:
                self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            except sqlite3.OperationalError as error:
                log.error("no checkpoint: %s", error)


def _keep_size(connection: sqlite3.Connection) -> None:
    """The file may not grow by this connection."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def _fail(group: Sequence[Work], error: Exception) -> None:
    """Whoever still waits hears of the error."""
    for work in group:
        if isinstance(work, Append) and not work.future.done():
            with suppress(InvalidStateError):  # given up just now
                work.future.set_exception(error)
