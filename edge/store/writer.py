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
        ready = self._path.with_name(self._path.name + ".salvaged")
        if ready.exists() and not self._path.exists():  # died just before the end of a salvage
            ready.replace(self._path)
        lost = not self._path.exists() or not self._path.stat().st_size
        if lost and roster.read(self._roster):
            return self._salvage("it is gone")
        try:
            return self._load()
        except sqlite.CorruptError as error:
            return self._salvage(str(error))
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
        """Put a fresh file in place, with all that is sound in the damaged one."""
        log.error("outbox damaged (%s); saving what can be read", reason)
        known = roster.read(self._roster)
        fresh = self._path.with_name(self._path.name + ".fresh")
        ready = self._path.with_name(self._path.name + ".salvaged")
        damaged = source = self._path if self._path.exists() else None
        while True:
            sqlite.remove(fresh)
            try:
                with closing(
                    sqlite.open_writer(fresh, tables.SCHEMA, wal_bytes=self._wal_bytes)
                ) as connection:
                    saved = salvage(source, connection, known)
                break
            except Exception as error:  # whatever it was: the worker must go on
                if sqlite.is_full(error) and self._ballast.release():
                    continue
                if source is None:
                    raise
                log.error("nothing can be saved (%s); all of it becomes gaps", error)
                source = None
        fresh.replace(ready)
        if damaged is not None:
            aside = sqlite.set_aside(self._path, self._setting.clock.wall_ms(), keep=_KEEP_ASIDE)
            log.error("set aside as %s", aside.name)
        ready.replace(self._path)
        log.error("saved %d events; the rest is in %d gaps", saved.events, saved.gaps)
        return self._load()

    def _mend(self, reason: str) -> None:
        """The file was found damaged while it was in use. What fails is tried again later."""
        self._broken = reason
        open_before = self.open_incidents
        with self.reader.replaced():
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = self._salvage(reason)
        self._broken = ""
        self._reopen_incidents(open_before)

    def _reopen_incidents(self, open_before: dict[str, Stored]) -> None:
        """What memory knows of open incidents is better than what a damaged file says."""
        with self._begun() as transaction:
            transaction.replace_incidents(open_before)

    # --- the thread ---

    def _run(self) -> None:
        stopping = False
        while not stopping:
            try:
                following: Work | None = self._work.get(timeout=_LOOK_S)
            except queue.Empty:
                if self._tight or self._broken or self._save_due([]):
                    self._commit([Save()])
                continue
            group: list[Work] = []
            events = size_bytes = 0
            while following is not None:
                group.append(following)
                if isinstance(following, Append):
                    events += len(following.events)
                    size_bytes += following.size_bytes
                if events >= _GROUP_EVENTS or size_bytes >= _GROUP_BYTES:
                    break
                try:
                    following = self._work.get_nowait()
                except queue.Empty:
                    break
            else:
                stopping = True
                group.append(Save())
            self._commit(group)

    def _commit(self, group: Sequence[Work]) -> None:
        """One transaction for all that waits; each future hears of the same commit."""
        # A caller that has given up waiting is not told, and its events are not stored.
        alive = [
            work for work in group
            if not isinstance(work, Append) or work.future.set_running_or_notify_cancel()
        ]  # fmt: skip
        if self._tight:
            self._grow_again()
        pieces = [[work] for work in alive] if self._tight else [alive]
        for piece in pieces:
            try:
                answers = self._persist(piece)
            except Exception as error:  # whatever it was: the writer lives on, nobody waits in vain
                log.error("outbox cannot write: %s", error)
                for work in piece:
                    if isinstance(work, Append):
                        work.future.set_exception(error)
                continue
            for work, stored in answers:
                work.future.set_result(stored)
            if answers:
                self._on_stored([row for _, stored in answers for row in stored])

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
                elif sqlite.is_full(error) and relieved < _RELIEVE_TIMES:
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
            (pages,) = self._db.execute("PRAGMA page_count").fetchone()
            self._db.execute(f"PRAGMA max_page_count = {pages}")
            return True
        self._checkpoint()
        with self._begun() as transaction:
            return transaction.relieve(_RELIEVE_BYTES)

    def _grow_again(self) -> None:
        """Once there is room, the ballast is made again and the file may grow."""
        if self._ballast.load():
            self._db.execute(f"PRAGMA max_page_count = {_MAX_PAGES}")
            self._tight = False
            log.warning("the disk has room again")

    def _checkpoint(self) -> None:
        """Bring the log into the file, so that its room serves once more."""
        with self.reader.paused():
            try:
                self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            except sqlite3.OperationalError as error:
                log.error("no checkpoint: %s", error)
