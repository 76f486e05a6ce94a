"""How many live cameras one box carries: a whole worker over looped recordings, in real time.

Each camera plays the reference stream (streams.py) at the pace of a camera, no two in step. All
start at once, awake and to be learned, which is more than the box carries for long: `settled_s`
tells when none of them was degraded any more. A number is carried when every stream runs and then
makes 0.99 of the looks of a minute. Without --streams a large such number is sought, for idle and
for mixed cameras: what the cores should carry by what the first few cost, then by halving.

    python -m benchmarks.replay --json
    python -m benchmarks.replay --streams 12 --json
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import stage
from benchmarks.box import Box, Sample, box, turned

LEAST_COVERAGE = 0.99
ACTIVITIES = ("idle", "mixed")
SETTLE_WITHIN_S = 120.0
"""After the last stream runs: each is decoded in full at first, and learned."""
STEADY_S = 10.0
"""Settled is a worker that has degraded no stream for so long."""
WATCH_S = 60.0
"""A stream tells its coverage of so long."""
FIRST_STREAMS = 4
MOST_STREAMS = 200
MOST_STEPS = 2
FREE = 0.6
"""The part of the cores that the second number should fill."""


def main() -> int:
    """0 when measured."""
    given = _arguments()
    folder = given.folder
    result: dict[str, Any] = {"benchmark": "replay", "shards": given.shards}
    for activity in (given.activity,) if given.activity else ACTIVITIES:
        if given.streams:
            steps = [_step(folder, activity, given.streams, given)]
        else:
            steps = _search(folder, activity, given)
        carried = [step for step in steps if step["carried"]]
        beyond = [step for step in steps if not step["carried"]]
        result[f"{activity}_streams"] = max((step["streams"] for step in carried), default=0)
        if beyond:
            first = min(beyond, key=lambda step: int(step["streams"]))
            result[f"{activity}_limit"] = first["limit"]
        result[f"{activity}_steps"] = sorted(steps, key=lambda step: int(step["streams"]))
    stage.finish(result, given)
    return 0


def _arguments() -> argparse.Namespace:
    parser = stage.parser(__doc__)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--streams", type=int, help="try this number alone")
    parser.add_argument("--shards", type=int, default=cores, help="decode processes [one a core]")
    parser.add_argument("--activity", choices=ACTIVITIES, help="of these alone [both]")
    parser.add_argument(
        "--steps", type=int, default=MOST_STEPS, help="most numbers tried of each [2]"
    )
    given = parser.parse_args()
    if given.streams is not None and not 1 <= given.streams <= MOST_STREAMS:
        parser.error(f"--streams is 1 to {MOST_STREAMS}")
    return given


def _search(folder: Path, activity: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The steps on the way to the largest number that is carried."""
    steps: list[dict[str, Any]] = []
    good, bad, count = 0, MOST_STREAMS + 1, FIRST_STREAMS
    while good < count < bad and len(steps) < given.steps:
        step = _step(folder, activity, count, given)
        steps.append(step)
        if step["carried"]:
            good = count
        else:
            bad = count
        count = _next(good, bad, step)
    return steps


def _next(good: int, bad: int, step: dict[str, Any]) -> int:
    """The next number to try: what the cores should carry, or half way to what they did not."""
    if bad <= MOST_STREAMS:
        return (good + bad) // 2
    might = float(step["cores"]) * FREE / max(float(step["cores_used"]), 0.01)
    return min(MOST_STREAMS, max(good + 1, int(good * might)))


def _step(folder: Path, activity: str, count: int, given: argparse.Namespace) -> dict[str, Any]:
    """One number of cameras: what was seen of them, and what it took."""
    stage.say(f"{count} {activity} streams")
    with box(turned(folder, activity, count), shards=given.shards) as worker:
        try:
            worker.started(count)
        except AssertionError:
            return _not_started(worker.sample(), count)
        settled_s = _settled(worker)
        before = worker.sample()
        stage.let_run(WATCH_S)
        after = worker.sample()
    coverages = {stream["camera"]: stream.get("coverage") or 0.0 for stream in after.streams}
    told = _told(before, after, worker.agent)
    least = min(coverages.values())
    running = all(stream["state"] == "running" for stream in after.streams)
    step = {
        "streams": count,
        "carried": running and least >= LEAST_COVERAGE,
        "coverage_least": round(least, 3),
        "coverage_mean": round(sum(coverages.values()) / count, 3),
        "settled_s": settled_s,
        "below": {name: round(got, 3) for name, got in coverages.items() if got < LEAST_COVERAGE},
        "degraded": sum(bool(stream.get("step")) for stream in after.streams),
        **told,
    }
    step["limit"] = "" if step["carried"] else _limit(step, after)
    stage.say(
        f"{'carried' if step['carried'] else 'too many'}: coverage {step['coverage_least']} at "
        f"least, {step['cores_used']} of {step['cores']} cores, {step['rss_mb']} MB"
    )
    return step


def _settled(worker: Box) -> float | None:
    """Wait until no stream is degraded any more: after how many seconds; None if never."""
    began_s = steady_since_s = time.monotonic()
    while (now_s := time.monotonic()) - began_s < SETTLE_WITHIN_S:
        if any(stream.get("step") for stream in worker.streams()):
            steady_since_s = now_s
        elif now_s - steady_since_s >= STEADY_S:
            return round(steady_since_s - began_s, 1)
        stage.let_run(1.0)
    return None


def _told(before: Sample, after: Sample, agent: int) -> dict[str, Any]:
    """What the processes used between two samples."""
    took_s = after.at_s - before.at_s
    by_process = {
        ("agent" if pid == agent else f"process-{number}"): round(
            (used - before.cpu_s.get(pid, 0.0)) / took_s, 2
        )
        for number, (pid, used) in enumerate(sorted(after.cpu_s.items()))
    }
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cores_used": round(sum(by_process.values()), 2),
        "cores_by_process": by_process,
        "rss_mb": round(sum(after.rss_mb.values())),
        "agent_rss_mb": round(after.rss_mb[agent], 1),
        "decoded_fps": round(sum(stream.get("decoded_fps", 0.0) for stream in after.streams), 1),
    }


def _limit(step: dict[str, Any], after: Sample) -> str:
    """What there was too little of."""
    lost = next((stream for stream in after.streams if stream["state"] != "running"), None)
    if lost is not None:
        return f"{lost['camera']} is {lost['state']}: {lost.get('error', '')}"
    if step["cores_used"] >= 0.85 * step["cores"]:
        return "CPU: the cores are used up"
    busiest = max(step["cores_by_process"].values())
    if busiest >= 0.85:
        return f"CPU: one process uses {busiest} of a core"
    if step["degraded"]:
        return f"CPU: the worker's budget; {step['degraded']} streams are degraded"
    return "not the CPU of this worker: other processes, or the disk"


def _not_started(sample: Sample, count: int) -> dict[str, Any]:
    states = [stream["state"] for stream in sample.streams]
    return {
        "streams": count,
        "carried": False,
        "coverage_least": 0.0,
        "cores": len(os.sched_getaffinity(0)),
        "limit": f"only {states.count('running')} streams came to run",
    }


if __name__ == "__main__":
    raise SystemExit(main())
