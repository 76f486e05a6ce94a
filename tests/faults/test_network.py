"""A bad network between a worker and its broker, and processes that stand still."""

import os
import signal
import time

import pytest

from tests.faults.rig import House, Station
from tests.parts import proxy
from tests.parts.proxy import Publish
from tests.waiting import wait_for

EVENTS = 150


def _settled(house: House, station: Station, least: int) -> None:
    station.drained()
    verdict = house.verdict(station)
    assert verdict.clean, verdict
    assert verdict.given_up == {}
    assert verdict.confirmed >= least


@pytest.mark.parametrize(
    ("name", "chances"),
    [
        ("loss", {"drop": 0.2}),
        ("twice", {"twice": 0.4}),
        ("late", {"late": 0.4}),
        ("all", {"drop": 0.1, "twice": 0.2, "late": 0.2}),
    ],
)
def test_messages_are_spoilt(house: House, name: str, chances: dict[str, float]) -> None:
    """I1, I2, I3: lost, doubled and overtaken messages, both ways, change nothing in the end."""
    with house.station(f"net-{name}", burst=10, ack_within_s=0.5) as station:
        station.network.up.rule = proxy.dice(1, **chances)
        station.network.down.rule = proxy.dice(2, **chances)
        station.change(rate=60.0, limit=EVENTS)
        station.generated(EVENTS)
        _settled(house, station, EVENTS)


def test_a_document_in_parts_over_a_spoilt_line(house: House) -> None:
    """I5: a document of several messages, of which some are lost, doubled and overtaken, arrives
    whole or not at all, and arrives."""
    name = "net-parts"
    place = {"station": f"{name}-station"}
    with house.station(name, start=False) as station:
        stream = {"main": {"url": "rtsp://camera.example/main"}}
        camera = {"name": "bay", **place}
        house.center.put({"kind": "Camera", "metadata": camera, "spec": {"streams": stream}})
        circle = [[0.5 + n / 10_000, 0.25 + n % 7 / 10] for n in range(60)]
        for number in range(24):
            zones = {f"zone-{n}": circle for n in range(16)}
            spec = {
                "camera": "bay", "model": {"name": "forecourt-nano"}, "zones": zones,
                "rules": [{"name": "r", "when": {"class": "car", "in": "zone-1"}, "for": "3s"}],
            }  # fmt: skip
            house.center.put(
                {"kind": "Task", "metadata": {"name": f"t-{number}", **place}, "spec": spec}
            )
        station.network.up.rule = proxy.dice(5, drop=0.1, twice=0.2, late=0.2)
        station.network.down.rule = proxy.dice(6, drop=0.1, twice=0.2, late=0.2)
        station.start()

        def runs() -> bool:
            found = [house.center.task(place["station"], f"t-{number}") for number in range(24)]
            return all(task["state"] == "Running" for task in found)

        wait_for(runs, 50, "every task runs", 0.2)
        parts, _ = station.network.down.topics[f"fc/v1/dn/{name}/desired"]
        assert parts >= 2


def test_a_slow_and_distant_line(house: House) -> None:
    """I1, I2, I3: 300 ms each way at 128 kbit/s only take longer."""
    with house.station("net-slow", burst=10, ack_within_s=15.0) as station:
        for way in (station.network.up, station.network.down):
            way.delay_s, way.bytes_per_s = 0.3, 16_000
        station.change(rate=60.0, limit=EVENTS)
        station.generated(EVENTS)
        _settled(house, station, EVENTS)


@pytest.mark.parametrize(
    "way",
    [
        "both",
        pytest.param("up", marks=pytest.mark.soak),
        pytest.param("down", marks=pytest.mark.soak),
    ],
)
def test_a_half_open_connection(house: House, way: str) -> None:
    """I1, I2, I8: bytes that go nowhere, without an end of the connection, are sent again."""
    with house.station(f"net-open-{way}", burst=10, ack_within_s=0.5, keepalive_s=1) as station:
        station.online()
        network = station.network
        network.up.silent = way != "down"
        network.down.silent = way != "up"
        station.change(rate=60.0, limit=EVENTS)
        station.generated(EVENTS)
        station.until("it notices", online=False)
        network.heal()
        _settled(house, station, EVENTS)


def test_a_line_that_breaks_all_the_time(house: House) -> None:
    """I1, I2, I3: a connection that is reset every few packets still gets everything through."""
    with house.station("net-breaks", reconnect_max_s=0.5) as station:

        def breaking(publish: Publish) -> proxy.Fate:
            if publish.number % 15 == 0:
                station.network.break_soon()
            return "pass"

        station.network.up.rule = breaking
        station.change(rate=60.0, limit=EVENTS)
        station.generated(EVENTS)
        wait_for(lambda: station.network.connections > 2, 20, "it breaks again")
        station.network.heal()
        _settled(house, station, EVENTS)


@pytest.mark.parametrize("frozen", ["worker", "center", "broker"])
def test_a_process_stands_still(house: House, frozen: str) -> None:
    """I1, I2, I3: SIGSTOP for longer than acks and keepalive wait, then SIGCONT."""
    with house.station(f"stop-{frozen}", burst=10, ack_within_s=0.5, keepalive_s=1) as station:
        station.online()
        pid = {
            "worker": station.process.pid,
            "center": house.center.process.pid,
            "broker": house.broker_pid,
        }[frozen]
        station.change(rate=60.0, limit=EVENTS)
        station.generated(10)
        os.kill(pid, signal.SIGSTOP)
        try:
            until_s = time.monotonic() + 2.0
            wait_for(lambda: time.monotonic() > until_s, 10, "the pause is over")
        finally:
            os.kill(pid, signal.SIGCONT)
        station.generated(EVENTS)
        _settled(house, station, EVENTS)
