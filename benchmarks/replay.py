"""How many live cameras one box carries: a whole worker over looped recordings, in real time.

Each camera plays the reference stream (streams.py) at the pace of a camera, no two in step. A
number is carried when over some seconds every stream runs and makes 0.99 of the looks that its task
wants. Without --streams the largest such number is sought, for idle and for mixed cameras: by what
a stream is seen to cost, then by halving what is left.

    python -m benchmarks.replay --json
    python -m benchmarks.replay --streams 12 --json
"""

import argparse
import os
from pathlib import Path
from typing import Any

from benchmarks import stage
from benchmarks.box import Sample, box, turned

LEAST_COVERAGE = 0.99
ACTIVITIES = ("idle", "mixed")
SETTLE_S = 10.0
"""After the last stream runs: each is decoded in full at first, and learned."""
WATCH_S = 15.0
FIRST_STREAMS = 2
MOST_STREAMS = 200
MOST_STEPS = 6


def main() -> int:
    """0 when measured."""
    given = _arguments()
    folder = given.folder
    result: dict[str, Any] = {"benchmark": "replay", "shards": given.shards}
    for activity in ACTIVITIES:
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
    parser.add_argument("--watch-s", type=float, default=WATCH_S, help="how long each is watched")
    parser.add_argument("--steps", type=int, default=MOST_STEPS, help="most numbers tried [6]")
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
    """The next number to try: what the cores should carry, at most four times as many; or half way.

    That is a little above the estimate, for a number that fails is needed as well.
    """
    if bad <= MOST_STREAMS:
        return (good + bad) // 2
    free = float(step["cores"]) / max(float(step["cores_used"]), 0.01)
    return min(MOST_STREAMS, max(good + 1, round(good * min(4.0, free * 1.05))))


def _step(folder: Path, activity: str, count: int, given: argparse.Namespace) -> dict[str, Any]:
    """One number of cameras: what was seen of them, and what it took."""
    stage.say(f"{count} {activity} streams")
    with box(turned(folder, activity, count), shards=given.shards) as worker:
        try:
            began_s = worker.started(count)
        except AssertionError:
            return _not_started(worker.sample(), count)
        stage.let_run(SETTLE_S)
        before = worker.sample()
        stage.let_run(given.watch_s)
        after = worker.sample()
    coverages = _coverages(before, after, began_s)
    told = _told(before, after, worker.agent)
    least = min(coverages.values())
    running = all(stream["state"] == "running" for stream in after.streams)
    step = {
        "streams": count,
        "carried": running and least >= LEAST_COVERAGE,
        "coverage_least": round(least, 3),
        "coverage_mean": round(sum(coverages.values()) / count, 3),
        "coverage_told_least": round(
            min(stream.get("coverage") or 0.0 for stream in after.streams), 3
        ),
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


def _coverages(before: Sample, after: Sample, began_s: float) -> dict[str, float]:
    """By camera: looks made ÷ wanted between two samples.

    A stream tells it of its last minute. Looks are wanted at a steady rate, so what was made in
    between follows from both while the first minute lasts; the start is not counted that way.
    """
    first = {stream["camera"]: stream.get("coverage") or 0.0 for stream in before.streams}
    age_0, age_1 = before.at_s - began_s, after.at_s - began_s
    return {
        stream["camera"]: min(
            1.0,
            max(
                0.0,
                ((stream.get("coverage") or 0.0) * age_1 - first.get(stream["camera"], 0.0) * age_0)
                / (age_1 - age_0),
            ),
        )
        for stream in after.streams
    }


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
