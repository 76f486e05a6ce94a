"""What a reconnect costs on the wire, with a thousand tasks in a worker's document.

Counted at the socket by a proxy: TCP payload of both ways (MQTT 5, no TLS; no TCP or IP headers),
from the TCP connect until nothing has come for two seconds after the first heartbeat: CONNECT,
SUBSCRIBE, hello, welcome, what follows of the document, observed, the heartbeat, every PUBACK.

    python -m benchmarks.resync --tasks 1000 --json
"""

import time
from typing import Any

from benchmarks import stage
from center import db, dispatch, tasks
from tests.faults import rig
from tests.faults.rig import House, Station
from tests.waiting import wait_for
from wire import specs

TASKS = 1000
QUIET_S = 2.0
HEARTBEAT_S = 10.0
SETTLED_WITHIN_S = 60.0


def main() -> int:
    """0 when measured."""
    parser = stage.parser(__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS)
    given = parser.parse_args()
    stage.require_mosquitto()
    with (
        stage.folder(given) as folder,
        rig.house(folder, heartbeat_s=HEARTBEAT_S) as house,
        house.station("resync", start=False) as station,
    ):
        stage.say(f"writing {given.tasks} tasks")
        _furnish(house, given.tasks)
        stage.say("the whole document")
        station.start()
        full = _counted(station, 0)
        _require_same(house, given.tasks)
        stage.say("a reconnect, nothing changed")
        unchanged = _reconnect(station)
        stage.say("a reconnect, one task changed meanwhile")
        station.network.refusing = True
        station.network.reset()
        station.until("it is cut off", online=False)
        house.center.put(_task(0, "5s"))
        one = _reconnect(station)
        _require_same(house, given.tasks)
        rss_mb = stage.peak_rss_mb(station.process.pid)
    result = {
        "benchmark": "resync",
        "tasks": given.tasks,
        "unchanged_bytes": unchanged["bytes"],
        "one_changed_bytes": one["bytes"],
        "full_bytes": full["bytes"],
        "unchanged": unchanged,
        "one_changed": one,
        "full": full,
        "station_peak_rss_mb": rss_mb,
    }
    stage.finish(result, given)
    return 0


def _furnish(house: House, count: int) -> None:
    about = {"name": "bay", "station": "resync-station"}
    streams = {"main": {"url": "rtsp://camera.example/main"}}
    house.center.put({"kind": "Camera", "metadata": about, "spec": {"streams": streams}})
    # All in one transaction while the center is away: by the API, each would renew the document.
    house.center.process.stop()
    database = db.open_sqlite(house.center.data)
    now_ms = time.time_ns() // 1_000_000
    with database.transaction() as connection:
        for number in range(count):
            task = specs.parse(_task(number))
            assert isinstance(task, specs.Task)
            tasks.put(connection, task, now_ms)
        dispatch.refresh(connection, "resync-station", now_ms)
    database.close()
    house.center.start()


def _task(number: int, lasting: str = "3s") -> dict[str, Any]:
    """A task of the usual size."""
    return {
        "kind": "Task",
        "metadata": {"name": f"watch-{number:04d}", "station": "resync-station"},
        "spec": {
            "camera": "bay",
            "fps": 5,
            "model": {"name": "forecourt-nano", "min_score": 0.35, "classes": ["person", "car"]},
            "zones": {"unload": [[0.55, 0.4], [0.95, 0.4], [0.95, 0.95], [0.55, 0.95]]},
            "rules": [
                {
                    "name": "person-at-unloading",
                    "when": {"class": "person", "in": "unload"},
                    "for": lasting,
                    "severity": "critical",
                }
            ],
        },
    }


def _reconnect(station: Station) -> dict[str, Any]:
    """End the connection, let the station come back, and count until it is quiet."""
    station.network.refusing = True
    station.network.reset()
    station.until("it is cut off", online=False)
    before = station.network.total_bytes
    station.network.up.topics.clear()
    station.network.down.topics.clear()
    station.network.refusing = False
    return _counted(station, before)


def _counted(station: Station, before: int) -> dict[str, Any]:
    network = station.network
    beat = f"fc/v1/up/{station.name}/hb"
    station.online(60)
    wait_for(lambda: beat in network.up.topics, SETTLED_WITHIN_S, "a heartbeat")
    wait_for(lambda: network.quiet_s() > QUIET_S, SETTLED_WITHIN_S, "quiet")
    packets = {
        topic.rpartition(f"{station.name}/")[2]: {"packets": count, "bytes": size}
        for way in (network.up, network.down)
        for topic, (count, size) in way.topics.items()
    }
    return {"bytes": network.total_bytes - before, "publishes": packets}


def _require_same(house: House, count: int) -> None:
    """What was measured is a worker that has it all, and a center that knows so."""
    names = [f"watch-{number:04d}" for number in (0, count - 1)]

    def runs() -> bool:
        found = [house.center.task("resync-station", name) for name in names]
        return all(
            one["state"] == "Running" and one["observed_revision"] == one["desired_revision"]
            for one in found
        )

    wait_for(runs, SETTLED_WITHIN_S, "the tasks run", 0.5)


if __name__ == "__main__":
    raise SystemExit(main())
