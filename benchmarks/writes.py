"""What a quiet station costs its disk: one event a second, acknowledged as it goes, no evidence.

KiB a second that the process had written to the block layer (write_bytes of /proc/PID/io), and how
long an alarm takes from append to durable. The ledger and the status lie in memory.

    python -m benchmarks.writes --seconds 60 --json
"""

import tempfile
import time
from pathlib import Path

from benchmarks import stage
from tests.faults import ledger, rig
from tests.waiting import wait_for

SECONDS = 60
MOST_KIB_PER_S = 20.0
MOST_DURABLE_MS = 100.0
SHM = Path("/dev/shm")  # noqa: S108 - memory, so that what we note is not measured


def main() -> int:
    """0 when within the bars."""
    parser = stage.parser(__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--rate", type=float, default=1.0, help="events a second [1]")
    given = parser.parse_args()
    stage.require_mosquitto()
    memory = SHM if SHM.is_dir() else None
    with (
        stage.folder(given) as folder,
        tempfile.TemporaryDirectory(dir=memory) as notes,
        rig.house(folder, heartbeat_s=60.0) as house,
        house.station(
            "quiet",
            start=False,
            ack_within_s=15.0,
            ledger=str(Path(notes) / "ledger.jsonl"),
            status=str(Path(notes) / "status.json"),
        ) as station,
    ):
        station.ledgers[:] = [Path(notes) / "ledger.jsonl"]
        station.start()
        station.online()
        station.change(rate=given.rate)
        station.generated(2)
        stage.say(f"measuring for {given.seconds} s")
        before, began_s = _written(station.process.pid), time.monotonic()
        first = station.status()["generated"]
        wait_for(
            lambda: time.monotonic() - began_s >= given.seconds, given.seconds + 10, "the time", 0.2
        )
        after, took_s = _written(station.process.pid), time.monotonic() - began_s
        count = station.status()["generated"] - first
        rss_mb = stage.peak_rss_mb(station.process.pid)
        station.drained(60)
        verdict = house.verdict(station)
        durable = [e["append_ms"] for e in ledger.entries(*station.ledgers) if e["lane"] == "alarm"]
    written = after["write_bytes"] - before["write_bytes"]
    cancelled = after["cancelled_write_bytes"] - before["cancelled_write_bytes"]
    result = {
        "benchmark": "writes",
        "seconds": round(took_s, 1),
        "events": count,
        "kib_per_s": round(written / 1024 / took_s, 2),
        "kib_per_event": round(written / 1024 / max(1, count), 2),
        "cancelled_kib": round(cancelled / 1024, 1),
        "alarms": len(durable),
        "alarm_durable_p95_ms": stage.percentile(durable, 0.95),
        "alarm_durable_max_ms": max(durable, default=None),
        "station_peak_rss_mb": rss_mb,
        "lost": verdict.lost,
    }
    stage.finish(result, given)
    within = result["kib_per_s"] <= MOST_KIB_PER_S and max(durable, default=0) <= MOST_DURABLE_MS
    return 0 if within and not verdict.lost else 1


def _written(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}


if __name__ == "__main__":
    raise SystemExit(main())
