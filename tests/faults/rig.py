"""The rig of the fault tests: a Mosquitto, a center, stations, each behind a network of its own.

All of them are real processes that a test may kill, stop and start again. Not here: the judge
(ledger), the faults (the tests, tests/parts).
"""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from center import check as center_check
from center import db
from edge.store import check as edge_check
from tests.faults import ledger
from tests.faults.ledger import Verdict
from tests.parts.brokers import BrokerHandle, mosquitto
from tests.parts.processes import Center, Process
from tests.parts.proxy import Proxy, proxy
from tests.parts.station import Plan
from tests.waiting import wait_for

HEARTBEAT_S = 1.0
PATIENCE_S = 25.0


@dataclass
class Station:
    """A station process, its folders, and the network before it."""

    name: str
    folder: Path
    network: Proxy
    process: Process
    plan: Plan
    ledgers: list[Path] = field(default_factory=list)

    @property
    def data(self) -> Path:
        """Its data folder."""
        return Path(self.plan.data)

    def change(self, **changes: Any) -> None:
        """Change the plan, of a running station too."""
        self.plan = msgspec.structs.replace(self.plan, **changes)
        path = self.folder / "plan.json"
        fresh = self.folder / "plan.json.new"
        fresh.write_bytes(msgspec.json.encode(self.plan))
        fresh.replace(path)

    def start(self, **changes: Any) -> None:
        """Start it and wait until it says so."""
        self.change(**changes)
        status = Path(self.plan.status)
        status.unlink(missing_ok=True)
        self.process.start()
        wait_for(status.exists, PATIENCE_S, f"the station starts\n{self.process.tail()}", 0.02)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def stop(self) -> None:
        """SIGTERM; it must leave in good order."""
        assert self.process.stop() == 0, self.process.tail()

    def status(self) -> dict[str, Any]:
        """What it says of itself; empty before it has said anything."""
        path = Path(self.plan.status)
        status: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return status

    def until(self, what: str, within_s: float = PATIENCE_S, **facts: Any) -> dict[str, Any]:
        """Wait until its status says all of `facts`."""

        def fits() -> dict[str, Any] | None:
            status = self.status()
            return status if all(status.get(name) == fact for name, fact in facts.items()) else None

        found = wait_for(fits, within_s, f"{what}: {self.status()}", 0.02)
        assert found is not None
        return found

    def online(self, within_s: float = PATIENCE_S) -> None:
        """Wait until the center has welcomed it."""
        self.until("the station is online", within_s, online=True)

    def generated(self, count: int) -> None:
        """Wait until this process has had so many events confirmed."""
        wait_for(
            lambda: self.status().get("generated", 0) >= count, PATIENCE_S, f"{count} events", 0.02
        )

    def drained(self, within_s: float = PATIENCE_S) -> None:
        """Stop the generator, and wait until nothing waits for an ack."""
        self.change(rate=0.0)
        self.until(
            "the generator rests and all is acknowledged",
            within_s,
            idle=True,
            rate=0.0,
            online=True,
            pending={"alarm": 0, "bulk": 0},
        )

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.process.pid, signal.SIGCONT)

    def entries(self) -> list[dict[str, Any]]:
        """Its ledger."""
        return list(ledger.entries(*self.ledgers))

    def check(self) -> None:
        """What can be verified of its folder at rest; it must not be running."""
        told = ("was set aside", "has rotted")  # damage that the worker knows of
        found = [
            finding
            for finding in edge_check.findings(self.data)
            if not any(words in finding.problem for words in told)
        ]
        assert not found, found


class House:
    """A broker and a center, with as many stations as a test wants."""

    def __init__(
        self, folder: Path, broker: BrokerHandle, center: Center, more: Sequence[str]
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.center = center
        self.database_url = ledger.url_of(center.data)
        self._more = more

    @property
    def broker_pid(self) -> int:
        """The broker's process id."""
        assert self.broker.pid is not None
        return self.broker.pid()

    def restart_center(self, *faults: str) -> None:
        """Start the center, killed before if it runs; `faults` are flags of faulty_center."""
        self.center.process.kill()
        program = ["tests.parts.faulty_center", *faults]
        self.center.process = _center_process(self.folder, self.broker.url, program, self._more)
        self.center.start()

    def register(self, worker: str, station: str = "") -> None:
        """Make a worker known, on a station of its own unless one is named."""
        station = station or f"{worker}-station"
        self.center.put({"kind": "Station", "metadata": {"name": station}, "spec": {}})
        about = {"name": worker, "station": station}
        self.center.put({"kind": "Worker", "metadata": about, "spec": {}})

    @contextmanager
    def station(self, name: str, *, start: bool = True, **plan: Any) -> Iterator[Station]:
        """A registered station; it runs unless `start` is false."""
        self.register(name)
        with self.bare_station(name, start=start, **plan) as made:
            yield made

    @contextmanager
    def bare_station(
        self, name: str, *, start: bool = True, folder: str = "", **plan: Any
    ) -> Iterator[Station]:
        """A station that nobody registers."""
        home = self.folder / (folder or name)
        home.mkdir(exist_ok=True)
        book = home / "ledger.jsonl"
        with ExitStack() as parts:
            network = parts.enter_context(proxy(self.broker.url))
            words: dict[str, Any] = {
                "worker": name,
                "data": str(home / "data"),
                "brokers": [network.url],
                "ledger": str(book),
                "status": str(home / "status.json"),
                **plan,
            }
            process = Process(
                home / "station.log",
                ["tests.parts.station", "--config", str(home / "plan.json")],
            )
            made = Station(name, home, network, process, Plan(**words), [book])
            made.change()
            parts.callback(made.kill)
            if start:
                made.start()
            yield made

    def verdict(self, station: Station, *more: Path) -> Verdict:
        """The judge's word on a station as of now."""
        return ledger.judge(self.database_url, station.name, *station.ledgers, *more)

    def check(self) -> None:
        """What can be verified of the database; the center must not be running."""
        database = db.open_sqlite(self.center.data)
        try:
            assert not list(center_check.check(database))
        finally:
            database.close()


def _center_process(
    folder: Path, broker_url: str, program: Sequence[str], more: Sequence[str] = ()
) -> Process:
    return Process(
        folder / "center.log",
        [*program, "serve", "--data", str(folder / "center"), "--listen", "127.0.0.1:0",
         "--broker", broker_url, "--admin-token-file", str(folder / "admin.token"), *more],
    )  # fmt: skip


@contextmanager
def house(
    folder: Path,
    *more: str,
    broker_config: str = "",
    faults: Sequence[str] = (),
    heartbeat_s: float = HEARTBEAT_S,
    whole: bool = False,
    mqtt: str = "auto",
) -> Iterator[House]:
    """A running broker and center below `folder`; `more` are flags of the center.

    The center is one that can be made to fail (`faults` are flags of faulty_center) and has no
    pages, or the `whole` program; it speaks `mqtt` to the broker.
    """
    more = ("--heartbeat-s", str(heartbeat_s), *more)
    program = ["center"] if whole else ["tests.parts.faulty_center", *faults]
    with mosquitto(folder, extra_config=broker_config) as broker:
        process = _center_process(folder, f"{broker.url}?version={mqtt}", program, more)
        made = House(folder, broker, Center(process, folder / "center"), more)
        try:
            made.center.start()
            yield made
        finally:
            made.center.http.close()
            made.center.process.kill()
