"""kill -9 of each process, again and again: what was confirmed arrives once, and nothing else is
missing below a watermark. The long loops are `make faults`.
"""

import random
from pathlib import Path

import pytest

from tests.faults import rig
from tests.faults.loops import EVENTS, VICTIMS, kill_loop
from tests.faults.rig import House
from tests.waiting import wait_for

SOAK_ROUNDS = 200


def _kill_loop(house: House, name: str, seed: int, victims: list[str]) -> None:
    with house.station(name, burst=5) as station:
        kill_loop(house, station, random.Random(seed), victims)
        station.drained(60)
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up == {}
        assert verdict.confirmed >= EVENTS * len(victims)
        station.stop()
        station.check()


@pytest.mark.parametrize("victim", ["worker", "broker"])
def test_one_process_dies_again_and_again(house: House, victim: str) -> None:
    """I1, I2, I3, I4: kill -9 in the midst of events loses and doubles nothing."""
    _kill_loop(house, f"kill-{victim}", 1, [victim] * 3)


def test_a_worker_dies_while_nobody_listens(house: House) -> None:
    """I1, I2: lives that ended without ever reaching the center are told by the next one."""
    with house.station("kill-alone", burst=5, rate=200.0) as station:
        station.network.refusing = True
        station.network.reset()
        for _ in range(3):
            station.kill()
            station.start()
            station.generated(EVENTS)
        station.network.heal()
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.confirmed >= 3 * EVENTS


def test_a_center_dies_at_its_worst_moments(house: House) -> None:
    """I1, I2, I3: a center that dies before its commit, before or behind its ack, loses nothing."""
    points = ("before-commit", "after-commit", "after-ack")
    with house.station("die", start=False, burst=5, ack_within_s=0.5) as station:
        for point in points:
            house.restart_center("--die", f"{point}:4")
            if not station.process.alive:
                station.start()
            station.online()
            station.change(rate=40.0)
            wait_for(lambda: not house.center.process.alive, rig.PATIENCE_S, "the center dies")
            station.change(rate=0.0)
        house.restart_center()
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up == {}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", ["worker", "center", "broker", "any"])
def test_kill_loops(tmp_path: Path, victim: str) -> None:
    """I1, I2, I3, I4: 200 rounds of kill -9 with a hundred events each."""
    rng = random.Random(2)
    victims = [rng.choice(VICTIMS) if victim == "any" else victim for _ in range(SOAK_ROUNDS)]
    with rig.house(tmp_path) as house:
        _kill_loop(house, f"soak-{victim}", 3, victims)
        house.center.process.stop()
        house.check()
