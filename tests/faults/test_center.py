"""A center that is slow, fed with poison, or restored from yesterday's backup."""

import json
import shutil
import sqlite3
import zlib
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from center.tables import dead_letters, gaps
from tests.faults import rig
from tests.faults.rig import House
from tests.parts import proxy
from tests.parts.links import publish_raw
from tests.parts.proxy import Publish
from tests.parts.workers import Voice, crossing, fake_worker
from tests.waiting import wait_for
from wire import codec, topics
from wire.events import Ack, Batch, batch_name, encode_event
from wire.events import Refused as RefusedBatch
from wire.topics import DownChannel, UpChannel

EVENTS = 100

POISON: dict[str, bytes] = {
    "empty": b"",
    "noise": bytes(range(256)),
    "half": b'{"k":"hello","worker":"',
    "list": b"[1,2,3]",
    "future": b'{"k":"from-the-future","session":"x"}',
    "no-session": b'{"k":"ev","epoch":1}',
    "bad-utf8": b'{"k":"hello","worker":"\xff\xfe"}',
    "deep": b'{"k":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "bomb": zlib.compress(bytes(50_000_000), 9),
    "torn-zlib": zlib.compress(b'{"k":"hb"}' * 99)[:40],
    "huge-number": b'{"k":"ev","session":"x","fence":1' + b"0" * 400 + b"}",
    "nul": b'{"k":"hello","worker":"a\\u0000b","instance":"\\u0000"}',
    "large": b'{"k":"hello","x":"' + b"x" * 300_000 + b'"}',
}
CHANNELS: tuple[UpChannel, ...] = (
    "hello",
    "hb",
    "will",
    "bye",
    "ev/alarm",
    "ev/bulk",
    "observed",
    "rsp",
)
DOWN: tuple[DownChannel, ...] = ("desired", "ack", "rpc")


def test_poison_on_every_topic(house: House) -> None:
    """I1, I2, I8: what nobody can read stops neither the center nor the worker nor a lane."""
    with house.station("poison", burst=10) as station:
        station.online()
        station.change(rate=20.0)
        for poison in POISON.values():
            for channel in CHANNELS:
                publish_raw(house.broker.url, topics.up("poison", channel).encode(), poison)
            for down in DOWN:
                publish_raw(house.broker.url, topics.down("poison", down).encode(), poison)
        publish_raw(house.broker.url, b"fc/v1/up/POISON/hello", b"{}")
        publish_raw(house.broker.url, b"fc/v1/up/poison/no/such/thing", b"{}")
        station.generated(EVENTS)
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up == {}
        assert house.center.process.alive
        assert station.process.alive


def test_poison_in_a_batch(house: House) -> None:
    """I1, I3: one unreadable event becomes a gap and a dead letter, and its neighbours are stored;
    an unreadable batch is answered by its name."""
    house.register("poisoner")
    with fake_worker(house.broker.url, Voice(worker="poisoner")) as fake:
        fake.join()
        good = [encode_event(crossing(number)) for number in (1, 2)]
        bad = json.dumps({"kind": 7, "camera": None}).encode()
        batch = codec.encode(fake.voice.batch(1, [good[0], bad, good[1]]))
        fake.say("ev/bulk", batch)
        assert fake.wait_for(Ack).watermark.seq == 3
        torn = batch[: len(batch) // 2]
        fake.say("ev/bulk", torn)
        assert fake.wait_for(RefusedBatch).batch == batch_name(torn)
    engine = create_engine(house.database_url)
    with closing(engine.connect()) as connection:
        of_gaps = select(gaps.c.first, gaps.c.last, gaps.c.why).where(gaps.c.worker == "poisoner")
        assert [tuple(row) for row in connection.execute(of_gaps)] == [(2, 2, "refused")]
        letters = select(dead_letters.c.body).where(dead_letters.c.worker == "poisoner")
        assert bad in [bytes(row.body) for row in connection.execute(letters)]
    engine.dispose()


def _back_up(house: House, folder: Path) -> None:
    path, copy = house.center.data / "center.db", folder / "backup.db"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _restore(house: House, folder: Path) -> None:
    house.center.process.kill()
    for old in house.center.data.glob("center.db*"):
        old.unlink()
    shutil.copy(folder / "backup.db", house.center.data / "center.db")
    house.center.start()


def _holding_back(epochs: set[int]) -> proxy.Rule:
    """Batches of these epochs do not arrive: their turn has not come."""

    def rule(publish: Publish) -> proxy.Fate:
        topic = topics.parse(publish.topic)
        if not isinstance(topic, topics.UpTopic) or not topic.channel.startswith("ev/"):
            return "pass"
        batch = codec.decode_up(topic, publish.payload)
        return "drop" if isinstance(batch, Batch) and batch.epoch in epochs else "pass"

    return rule


def test_a_backup_from_the_midst_of_a_drain(house: House, tmp_path: Path) -> None:
    """I1, I2, I3: newest epochs drain first, so the oldest is what a backup lacks; it is noticed
    without anything new."""
    with house.station("midst", start=False) as station:
        station.network.refusing = True
        station.start(prefill=200, prefill_lane="bulk")
        station.kill()
        oldest = {entry["epoch"] for entry in station.entries()}
        for _ in range(5):
            station.start(prefill=2, prefill_lane="bulk")
            station.kill()
        station.network.up.rule = _holding_back(oldest)
        station.network.refusing = False
        station.start(prefill=0, rate=0.0)
        wait_for(lambda: station.status()["pending"]["bulk"] == 200, 25, "the newer are drained")
        _back_up(house, tmp_path)
        station.network.heal()
        station.drained()
        _restore(house, tmp_path)
        wait_for(lambda: house.verdict(station).stored == 210, 30, "it is sent again")
        assert house.verdict(station).clean


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_more_lanes_than_a_hello_holds(house: House, tmp_path: Path) -> None:
    """I1, I3, I9: with 36 lanes undrained, a restored center still gets the newest again."""
    with house.station("many", start=False) as station:
        station.network.refusing = True
        for _ in range(36):
            station.start(prefill=1, prefill_lane="alarm")
            station.kill()
        old = {entry["epoch"] for entry in station.entries()}
        station.network.up.rule = _holding_back(old)
        station.network.refusing = False
        station.start(prefill=0, rate=50.0, lane="alarm", limit=50)
        station.generated(50)
        wait_for(lambda: station.status()["pending"]["alarm"] == 36, 20, "the newest is drained")
        _back_up(house, tmp_path)
        station.change(limit=100)
        station.generated(100)
        wait_for(lambda: station.status()["pending"]["alarm"] == 36, 20, "and again")
        house.center.process.kill()
        station.network.heal()
        station.change(limit=400)
        station.generated(400)
        _restore(house, tmp_path)
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.stored == 436


def test_a_center_restored_from_a_backup(house: House, tmp_path: Path) -> None:
    """I1, I2, I3, I5: a center restored from yesterday's backup gets again what workers still have;
    what they do not have any more is declared."""
    with house.station("restored", burst=20) as station:
        station.change(rate=60.0, limit=EVENTS)
        station.generated(EVENTS)
        station.drained()
        _back_up(house, tmp_path)
        station.change(rate=60.0, limit=2 * EVENTS)
        station.generated(2 * EVENTS)
        station.drained()
        station.kill()
        # A drained epoch, and one that the backup never heard of.
        station.start(rate=60.0, limit=EVENTS)
        station.generated(EVENTS)
        station.drained()
        _restore(house, tmp_path)
        station.change(rate=60.0, limit=2 * EVENTS)
        station.generated(2 * EVENTS)
        station.drained()
        wait_for(lambda: house.verdict(station).lost == 0, 20, "what it has is sent again")
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up.keys() <= {"forgotten", "lost_with_disk"}
        assert verdict.confirmed == 4 * EVENTS
        assert verdict.stored == 4 * EVENTS


def test_a_slow_center_and_a_broker_that_drops(tmp_path: Path) -> None:
    """I1, I2, I3: a broker that acknowledges what it then drops, as its queue is full, loses
    nothing in the end."""
    config = "max_queued_messages 3\nmax_inflight_messages 2"
    with (
        # By MQTT 5 the center's own window would count, which is wider than the broker's.
        rig.house(
            tmp_path, broker_config=config, faults=["--slow-s", "0.1"], mqtt="3.1.1"
        ) as house,
        ExitStack() as parts,
    ):
        stations = [
            parts.enter_context(
                house.station(f"slow-{number}", start=False, burst=3, ack_within_s=1.0)
            )
            for number in range(3)
        ]
        for station in stations:
            station.start(rate=40.0, limit=EVENTS)
        for station in stations:
            station.generated(EVENTS)
        for station in stations:
            station.drained(50)
        for station in stations:
            verdict = house.verdict(station)
            assert verdict.clean, verdict
            assert verdict.given_up == {}
            assert verdict.stored == EVENTS
        assert house.broker.log is not None
        assert "being dropped" in house.broker.log.read_text()
