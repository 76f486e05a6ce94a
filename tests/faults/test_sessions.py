"""Messages of a session that get lost, come late, come twice, or come where they do not belong."""

from collections import Counter
from collections.abc import Callable

from tests.faults.rig import House, Station
from tests.parts import proxy
from tests.parts.links import publish_raw
from tests.parts.proxy import Fate, Publish, Rule
from tests.waiting import wait_for
from wire import codec, topics
from wire.events import Rewind, Watermark
from wire.messages import Credit, Delta, Down, Hello, Up, Welcome

EVENTS = 100


def _down(publish: Publish) -> Down:
    topic = topics.parse(publish.topic)
    assert isinstance(topic, topics.DownTopic)
    return codec.decode_down(topic, publish.payload)


def _up(publish: Publish) -> Up:
    topic = topics.parse(publish.topic)
    assert isinstance(topic, topics.UpTopic)
    return codec.decode_up(topic, publish.payload)


def _dropping(kind: type, times: int, dropped: Counter[type]) -> Rule:
    """Lose the first messages of a kind on their way down."""

    def rule(publish: Publish) -> Fate:
        if isinstance(_down(publish), kind) and dropped[kind] < times:
            dropped[kind] += 1
            return "drop"
        return "pass"

    return rule


def _noting(seen: list[Publish], wanted: Callable[[Publish], bool]) -> Rule:
    """Let everything pass, and keep what is wanted."""

    def rule(publish: Publish) -> Fate:
        if wanted(publish):
            seen.append(publish)
        return "pass"

    return rule


def _clean(house: House, station: Station, least: int) -> None:
    station.drained()
    verdict = house.verdict(station)
    assert verdict.clean, verdict
    assert verdict.given_up == {}
    assert verdict.confirmed >= least


def test_lost_welcomes_and_grants(house: House) -> None:
    """I1, I2: a welcome that is lost is asked for again; a lost grant is restated with the next
    heartbeat, and the backlog goes."""
    with house.station("session-lost", start=False, prefill=2000, prefill_lane="bulk") as station:
        dropped: Counter[type] = Counter()
        rules = [_dropping(Welcome, 1, dropped), _dropping(Credit, 2, dropped)]

        def rule(publish: Publish) -> Fate:
            return "drop" if "drop" in [one(publish) for one in rules] else "pass"

        station.network.down.rule = rule
        station.start()
        _clean(house, station, 2000)
        assert dropped[Welcome] == 1


def test_late_and_strayed_hellos(house: House) -> None:
    """I1, I2, I12: an old hello that comes late takes nothing over, and neither does one that comes
    on another worker's topic."""
    hellos: list[Publish] = []
    with (
        house.station("session-one", start=False, burst=10) as one,
        house.station("session-two", burst=10) as two,
    ):
        one.network.up.rule = _noting(hellos, lambda p: p.topic.endswith("/hello"))
        one.start(rate=20.0)
        one.online()
        one.kill()
        one.start()
        one.online()
        two.online()
        two.change(rate=20.0)
        strayed = topics.up("session-two", "hello").encode()
        for _ in range(3):
            for hello in hellos:
                publish_raw(house.broker.url, hello.topic.encode(), hello.payload)
                publish_raw(house.broker.url, strayed, hello.payload)
        one.generated(EVENTS)
        two.generated(EVENTS)
        _clean(house, one, EVENTS)
        _clean(house, two, EVENTS)
        assert one.status()["denied"] == two.status()["denied"] == ""


def test_late_copies_of_batches_and_late_rewinds(house: House) -> None:
    """I2, I3: batches of an earlier session, and a rewind far below what is known, store nothing
    twice and forget nothing."""
    batches: list[Publish] = []
    hellos: list[Publish] = []
    with house.station("session-late", start=False, burst=10) as station:

        def rule(publish: Publish) -> Fate:
            (batches if "/ev/" in publish.topic else hellos).append(publish)
            return "pass"

        station.network.up.rule = rule
        station.start(rate=60.0, limit=EVENTS)
        station.generated(EVENTS)
        station.drained()
        for batch in batches:
            publish_raw(house.broker.url, batch.topic.encode(), batch.payload)
        said = [message for message in map(_up, hellos) if isinstance(message, Hello)]
        epochs = {(entry.epoch, entry.lane) for hello in said for entry in hello.epochs}
        epochs |= {
            (entry["epoch"], entry["lane"]) for entry in station.entries() if entry["seq"] == 1
        }
        for epoch, lane in sorted(epochs):
            mark = Watermark(epoch=epoch, lane=lane, seq=0)
            payload = codec.encode(Rewind(session=said[-1].session, watermark=mark))
            publish_raw(house.broker.url, topics.down(station.name, "ack").encode(), payload)
        station.network.reset()
        station.until("it is cut off", online=False)
        station.online()
        for batch in batches:
            publish_raw(house.broker.url, batch.topic.encode(), batch.payload)
        station.change(rate=60.0, limit=2 * EVENTS)
        station.generated(2 * EVENTS)
        _clean(house, station, 2 * EVENTS)


def test_one_changed_task_is_one_delta(house: House) -> None:
    """I5: after a reconnect a worker is told what has changed, once, and nothing else."""
    documents: list[Publish] = []
    with house.station("session-delta") as station:
        about = {"name": "bay", "station": f"{station.name}-station"}
        streams = {"main": {"url": "rtsp://camera.example/main"}}
        house.center.put({"kind": "Camera", "metadata": about, "spec": {"streams": streams}})
        for number in range(3):
            house.center.put(_task(station, number, "3s"))
        _observed(house, station, 3)
        station.network.refusing = True
        station.network.reset()
        station.until("it is cut off", online=False)
        house.center.put(_task(station, 1, "5s"))
        station.network.down.rule = _noting(documents, lambda p: p.topic.endswith("/desired"))
        beat = topics.up(station.name, "hb")
        station.network.up.topics.pop(beat, None)
        station.network.refusing = False
        _observed(house, station, 3)
        wait_for(lambda: station.network.up.topics.get(beat, (0,))[0] >= 2, 20, "two heartbeats")
        kinds = [type(_down(document)) for document in documents]
        assert kinds == [Delta], kinds


def _task(station: Station, number: int, lasting: str) -> dict[str, object]:
    rule = {"name": "somebody", "when": {"class": "person"}, "for": lasting}
    return {
        "kind": "Task",
        "metadata": {"name": f"watch-{number}", "station": f"{station.name}-station"},
        "spec": {"camera": "bay", "model": {"name": "nano"}, "rules": [rule]},
    }


def _observed(house: House, station: Station, count: int) -> None:
    """Wait until the center knows that every task runs as it is wanted."""

    def runs() -> bool:
        found = [house.center.task(f"{station.name}-station", f"watch-{n}") for n in range(count)]
        return all(
            one["state"] == "Running" and one["observed_revision"] == one["desired_revision"]
            for one in found
        )

    wait_for(runs, 20, "every task runs")


def test_documents_over_a_bad_network(house: House) -> None:
    """I5: edits while messages are lost, doubled and overtaken, both ways, and while the worker and
    the center die, end with the worker doing what the center wants."""
    with house.station("session-edits") as station:
        about = {"name": "bay", "station": f"{station.name}-station"}
        streams = {"main": {"url": "rtsp://camera.example/main"}}
        house.center.put({"kind": "Camera", "metadata": about, "spec": {"streams": streams}})
        chances = {"drop": 0.3, "twice": 0.2, "late": 0.2}
        station.network.up.rule = proxy.dice(3, **chances)
        station.network.down.rule = proxy.dice(4, **chances)
        for turn in range(12):
            house.center.put(_task(station, turn % 4, f"{turn + 1}s"))
            if turn == 4:
                station.kill()
                station.start()
            if turn % 3 == 2:
                station.network.reset()
        house.center.delete("Task", "watch-3", f"{station.name}-station")
        station.network.heal()
        station.online()
        _observed(house, station, 3)
        wanted = house.center.get(f"/workers/{station.name}")["status"]
        assert wanted["desired_revision"] == station.status()["desired"]["revision"]
