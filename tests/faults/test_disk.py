"""A station's disk that fills up, rots, is rolled back, or is copied."""

import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.rig import House, Station
from tests.waiting import wait_for

SMALL_MB = 4
DECLARED = {"lost_with_disk", "forgotten", "corrupt", "shed"}


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A file system of a few megabytes; skips where we may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MB}m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small disk needs root and the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_that_is_freed(house: House, tmp_path: Path) -> None:
    """I1, I4, I8: what a full disk cannot take is never confirmed; once freed, all goes on."""
    with (
        _small_disk(tmp_path / "disk") as disk,
        house.station("disk-full", start=False, data=str(disk / "data"), burst=10) as station,
    ):
        station.network.refusing = True
        station.start(rate=100.0)
        station.generated(100)
        filler = disk / "foreign"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(64 * 1024)):
                    pass
            except OSError:
                pass  # it is full: what we came for
        wait_for(lambda: station.status().get("failed", 0), 20, "an append fails")
        station.network.heal()
        filler.unlink()
        enough = station.status()["generated"] + 100
        station.generated(enough)
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up.keys() <= {"shed"}
        station.stop()
        station.check()


def test_a_disk_that_is_full_at_the_start(house: House, tmp_path: Path) -> None:
    """I1, I4: a worker that starts on a full disk loses nothing that it had confirmed."""
    with (
        _small_disk(tmp_path / "disk") as disk,
        house.station("disk-start", start=False, data=str(disk / "data"), burst=10) as station,
    ):
        station.network.refusing = True
        station.start(rate=100.0, limit=200)
        station.generated(200)
        station.kill()
        filler = disk / "foreign"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass  # it is full: what we came for
        station.network.heal()
        station.process.start()
        wait_for(
            lambda: not station.process.alive or station.status().get("online"), 20, "it starts"
        )
        filler.unlink()
        if not station.process.alive:
            station.kill()
            station.start()
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up == {}
        assert verdict.stored >= 200


def _offline_events(station: Station, count: int) -> None:
    """Events that the center has not heard of, of a life that ends by kill -9."""
    station.network.refusing = True
    station.start(rate=100.0, limit=count)
    station.generated(count)
    station.kill()


def _checkpoint(data: Path) -> None:
    """Move everything from the write-ahead log into the file, so that damage hits rows."""
    connection = sqlite3.connect(data / "outbox.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _flip_bits(path: Path, rng: random.Random, count: int) -> None:
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(count):
            place = rng.randrange(size)
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << rng.randrange(8)]))


def _damaged(house: House, name: str, damage: str, seed: int) -> None:
    rng = random.Random(seed)
    with house.station(name, start=False, burst=20) as station:
        _offline_events(station, 400)
        _checkpoint(station.data)
        path = station.data / "outbox.db"
        if damage == "bits":
            _flip_bits(path, rng, 8)
        elif damage == "torn":
            os.truncate(path, rng.randrange(path.stat().st_size))
        elif damage == "empty":
            os.truncate(path, 0)
        else:
            path.write_bytes(rng.randbytes(path.stat().st_size))
        station.network.heal()
        station.start(rate=100.0, limit=100)
        station.generated(100)
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up.keys() <= DECLARED, verdict
        if damage == "bits":
            assert verdict.stored >= 100 + 200, verdict
        assert verdict.stored >= 100
        station.stop()
        station.check()


@pytest.mark.parametrize("damage", ["bits", "torn", "empty", "noise"])
def test_a_damaged_outbox(house: House, damage: str) -> None:
    """I1, I2, I3, I7: whatever the disk does to the outbox, the worker starts and works on; what it
    still has is stored once, and the rest is declared."""
    _damaged(house, f"rot-{damage}", damage, 5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("damage", ["bits", "torn"])
def test_many_damaged_outboxes(house: House, damage: str) -> None:
    """I1, I2, I3, I7: the same with other bits, fifty times."""
    for seed in range(50):
        _damaged(house, f"rots-{damage}-{seed}", damage, seed)


def test_a_known_life_lost_with_its_disk(house: House) -> None:
    """I1, I3: what the center had heard of and a disk then lost is declared by the center."""
    with house.station("disk-gone", start=False, burst=20) as station:
        # Batches are withheld, heartbeats are not: the center knows how much there is.
        station.network.up.rule = lambda p: "drop" if "/ev/" in p.topic else "pass"
        station.start(rate=100.0, limit=200)
        station.generated(200)
        said = station.network.up.topics
        beats = said.get(f"fc/v1/up/{station.name}/hb", (0, 0))[0]
        wait_for(lambda: said.get(f"fc/v1/up/{station.name}/hb", (0, 0))[0] > beats, 20, "a beat")
        station.kill()
        for path in station.data.glob("outbox.db*"):
            path.unlink()
        station.network.heal()
        station.start(rate=100.0, limit=100)
        station.generated(100)
        station.drained()
        wait_for(lambda: house.verdict(station).lost == 0, 20, "the center declares the loss")
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up == {"lost_with_disk": 200}
        assert verdict.stored == 100


@pytest.mark.parametrize("told", [True, False])
def test_a_folder_that_is_rolled_back(house: House, told: bool) -> None:
    """I1, I2, I3: an old copy of a data folder uses no number twice; what the center has counts,
    and what it had only heard of is declared."""
    with house.station(f"rolled-{told}".lower(), start=False, burst=20) as station:
        station.start(rate=100.0, limit=100)
        station.generated(100)
        station.drained()
        station.kill()
        copy = station.folder / "copy"
        shutil.copytree(station.data, copy)
        if not told:
            station.network.up.rule = lambda p: "drop" if "/ev/" in p.topic else "pass"
        station.start(rate=100.0, limit=100)
        station.generated(100)
        if told:
            station.drained()
        else:
            beat = f"fc/v1/up/{station.name}/hb"
            said = station.network.up.topics
            beats = said.get(beat, (0, 0))[0]
            wait_for(lambda: said.get(beat, (0, 0))[0] > beats, 20, "a beat")
        station.kill()
        shutil.rmtree(station.data)
        shutil.move(copy, station.data)
        station.network.heal()
        station.start(rate=100.0, limit=100)
        station.generated(100)
        station.drained()
        wait_for(lambda: house.verdict(station).lost == 0, 20, "the center declares the loss")
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up == ({} if told else {"lost_with_disk": 100})
        assert verdict.stored == (300 if told else 200)


def test_two_clones_of_one_worker(house: House) -> None:
    """I1, I2, I12: of two living copies of one disk the elder keeps the name; after `replace` the
    other drains too, and both ledgers are whole."""
    with house.station("clone", start=False, burst=10) as elder:
        elder.start(rate=50.0, limit=50)
        elder.generated(50)
        elder.drained()
        elder.stop()
        shutil.copytree(elder.data, house.folder / "clone-copy")
        elder.start(rate=20.0, limit=0)
        elder.online()
        with house.bare_station(
            "clone", folder="clone-2", start=False, burst=10, data=str(house.folder / "clone-copy")
        ) as younger:
            younger.start(rate=20.0)
            fenced = _Fenced(elder, younger)
            denied = wait_for(fenced.found, 30, "one of them is denied for good")
            kept = elder if denied is younger else younger
            kept.online()
            assert denied is younger, "the elder keeps the name"
            kept.drained()
            denied.change(rate=0.0)
            kept.stop()
            answer = house.center.http.post("/api/v1/workers/clone/replace")
            assert answer.status_code in (200, 202, 204), answer.text
            denied.network.reset()  # or it waits until it is time to ask again
            denied.drained()
            verdict = house.verdict(elder, *younger.ledgers)
            assert verdict.clean, verdict
            assert verdict.given_up == {}


class _Fenced:
    """Finds who is denied for good: a challenge is a denial too, but a short one."""

    FOR_S = 2.0

    def __init__(self, *stations: Station) -> None:
        self._stations = stations
        self._since_s: dict[str, float] = {}

    def found(self) -> Station | None:
        """The station that has been denied for a while; None yet."""
        for station in self._stations:
            key = str(station.folder)
            status = station.status()
            if status.get("online") or not status.get("denied"):
                self._since_s.pop(key, None)
                continue
            since_s = self._since_s.setdefault(key, time.monotonic())
            if time.monotonic() - since_s > self.FOR_S:
                return station
        return None
