"""Whether a worker's memory stays within bounds: live streams for an hour, watched from outside.

Cameras are recordings that loop, so each is opened anew every minute, as by a camera that restarts.
What counts is the resident memory of the decode process: its median in the last tenth of the time,
less that in the second tenth (by then its rings are full and its libraries loaded).

    python -m benchmarks.memory --minutes 60 --json
"""

import statistics
from typing import Any

from benchmarks import stage
from benchmarks.box import Box, box, turned

MINUTES = 6.0
STREAMS = 2
EVERY_S = 5.0
BAR_MB_AN_HOUR = 6.0
"""A fragmenting heap creeps by so much in its first hour; a leak of a picture an hour is 3 MB."""


def main() -> int:
    """0 when measured, whatever came of it."""
    parser = stage.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long [6]")
    parser.add_argument("--streams", type=int, default=STREAMS, help="live streams of 1080p [2]")
    parser.add_argument("--encoder", default="reference", help="of their recordings [reference]")
    given = parser.parse_args()
    recordings = turned(given.folder, "mixed", given.streams, given.encoder)
    with box(recordings, shards=1) as worker:
        worker.started(given.streams)
        rss_mb, coverages = _watched(worker, given.minutes * 60)
    stage.finish(
        {
            "benchmark": "memory",
            "minutes": given.minutes,
            "streams": given.streams,
            "coverage_min": min(coverages, default=None),
            **_figures(rss_mb, given.minutes / 60),
            "rss_mb": [round(each) for each in rss_mb[:: max(1, len(rss_mb) // 60)]],
        },
        given,
    )
    return 0


def _watched(worker: Box, seconds: float) -> tuple[list[float], list[float]]:
    """The decode processes' resident memory over the time, in MB; coverage of every stream."""
    rss_mb: list[float] = []
    coverages: list[float] = []
    for turn in range(round(seconds / EVERY_S)):
        stage.let_run(EVERY_S)
        sample = worker.sample()
        rss_mb.append(sum(mb for pid, mb in sample.rss_mb.items() if pid != worker.agent))
        coverages += [s["coverage"] for s in sample.streams if s.get("coverage") is not None]
        if turn % 12 == 0:
            stage.say(f"{turn * EVERY_S / 60:.0f} min: {rss_mb[-1]:.0f} MB")
    return rss_mb, coverages


def _figures(rss_mb: list[float], hours: float) -> dict[str, Any]:
    tenth = max(1, len(rss_mb) // 10)
    early = statistics.median(rss_mb[tenth : 2 * tenth] or rss_mb)
    late = statistics.median(rss_mb[-tenth:])
    return {
        "settled_mb": round(early, 1),
        "end_mb": round(late, 1),
        "peak_mb": round(max(rss_mb), 1),
        "growth_mb_an_hour": round((late - early) / (0.8 * hours), 1),
        "bar_mb_an_hour": BAR_MB_AN_HOUR,
    }


if __name__ == "__main__":
    raise SystemExit(main())
