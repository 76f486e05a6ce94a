"""What watching a stream costs: CPU seconds per stream second, ours and others', in one run.

Each way runs in a process of its own (contenders.py) over the same recordings (streams.py), decoder
and network with one thread, what is compared next to each other in time, several times; the median
counts. "Without inference" is the same run with the network's answers given.

    python -m benchmarks.decode --json
    python -m benchmarks.decode --variants bframes,h265 --json      or: --variants all
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import box, contenders, incidents, stage, streams
from benchmarks.contenders import Order, Run
from wire.events import decode_event

SECONDS = 60.0
REPEATS = 3
SETTLED_S = 120.0
"""A stream is decoded in full at first; what more of it costs tells what it costs for good."""
BARS = {
    "idle_ratio": 0.12,
    "mixed_ratio": 0.65,
    "full_overhead": 1.10,
    "start_error_ms_max": 200,
    "vs_pipe_mixed": 0.70,
    "rss_per_stream_mb": 25.0,
    "rss_per_bframes_stream_mb": 40.0,
    "rss_per_h265_stream_mb": 40.0,
}
"""At most; `incident_recall` is to be 1."""
_LOOK_S = 1 / contenders.LOOKS_PER_S
_RULE = "person"


def main() -> int:
    """0 when measured, whatever came of it."""
    given = _arguments()
    stage.require_ffmpeg()
    result: dict[str, Any] = {
        "benchmark": "decode",
        "model": streams.model().name,
        "seconds": given.seconds,
        "repeats": given.repeats,
    }
    reference = Measured("reference", given)
    reference.idle(given.repeats)
    reference.mixed(given.repeats)
    reference.always()
    result.update(reference.ratios())
    result.update(_recall(given.folder))
    result["cpu_per_stream_s"] = {"reference": reference.costs()}
    result["variants"] = {}
    for name in given.variants:
        variant = Measured(name, given)
        variant.idle(1)
        variant.mixed(1)
        result["variants"][name] = variant.ratios()
        result["cpu_per_stream_s"][name] = variant.costs()
    if not given.skip_rss:
        result.update(_memory(given.folder))
    result["missed_bars"] = _missed(result)
    _show(result)
    stage.finish(result, given)
    return 0


def _arguments() -> argparse.Namespace:
    parser = stage.parser(__doc__)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="length of a stream, by 20 [60]"
    )
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of what is compared [3]")
    parser.add_argument("--variants", default="", help=f"{','.join(streams.VARIANTS)}, or all")
    parser.add_argument("--skip-rss", action="store_true", help="leave memory out")
    given = parser.parse_args()
    names = [name for name in given.variants.split(",") if name]
    given.variants = list(streams.VARIANTS) if names == ["all"] else names
    if unknown := set(given.variants) - set(streams.VARIANTS):
        parser.error(f"no such variant: {', '.join(sorted(unknown))}")
    return given


# --- CPU ---------------------------------------------------------------------------------------


@dataclass
class Measured:
    """All runs over the streams of one encoder."""

    encoder: str
    given: argparse.Namespace
    runs: dict[tuple[str, str], list[Run]] = field(default_factory=lambda: defaultdict(list))
    """By activity and way."""
    stream_s: dict[str, float] = field(default_factory=dict)

    def idle(self, repeats: int) -> None:
        """Nothing happens."""
        file = self._file("idle")
        longer = self._file("idle for long", self.given.seconds + SETTLED_S, "idle")
        for _ in range(repeats):
            self._run("idle", "ffmpeg", file)
            self._run("idle", "adaptive", file)
            self._run("idle for long", "adaptive", longer)

    def mixed(self, repeats: int) -> None:
        """Something happens for a quarter of the time."""
        file = self._file("mixed")
        ours = self._run("mixed", "adaptive", file)
        whole = self._run("mixed", "full", file)
        self._run("mixed", "opencv", file)
        for turn in range(repeats):
            self._run("mixed", "ffmpeg", file)
            self._run("mixed", "adaptive without inference", file, looks=ours.looks)
            if turn:
                self._run("mixed", "adaptive", file)
            self._run("mixed", "pipe", file, schedule=tuple(ours.looks))
            for _ in range(2):  # they are nearly alike: more runs tell them apart
                self._run("mixed", "pyav", file)
                self._run("mixed", "full without inference", file, looks=whole.looks)

    def always(self) -> None:
        """Something happens all the time: being adaptive saves nothing, and should cost little."""
        file = self._file("always", streams.PART_S)
        self._run("always", "ffmpeg", file)
        ours = self._run("always", "adaptive", file)
        self._run("always", "adaptive without inference", file, looks=ours.looks)

    def costs(self) -> dict[str, dict[str, dict[str, float]]]:
        """By activity and way: the median of CPU seconds per stream second, and its spread."""
        told: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
        for (activity, way), runs in self.runs.items():
            each = sorted(run.cpu_s / self.stream_s[activity] for run in runs)
            told[activity][way] = {
                "median": round(statistics.median(each), 4),
                "least": round(each[0], 4),
                "most": round(each[-1], 4),
                "decoded": runs[0].pictures,
                "inferred": runs[0].inferences,
            }
        return told

    def ratios(self) -> dict[str, float]:
        """What the bars are about."""
        return {
            "idle_ratio": self._settled_ratio(),
            "idle_first_minute_ratio": self._ratio("idle", "adaptive", "ffmpeg"),
            "mixed_ratio": self._ratio("mixed", "adaptive without inference", "ffmpeg"),
            "full_overhead": self._ratio("mixed", "full without inference", "pyav"),
            "vs_pipe_mixed": self._ratio("mixed", "adaptive", "pipe"),
            "vs_opencv_mixed": self._ratio("mixed", "adaptive", "opencv"),
        }

    def _ratio(self, activity: str, ours: str, others: str) -> float:
        """The median of the ratios of runs that were next to each other in time."""
        pairs = zip(self.runs[activity, ours], self.runs[activity, others], strict=False)
        return round(statistics.median(above.cpu_s / below.cpu_s for above, below in pairs), 3)

    def _settled_ratio(self) -> float:
        """That of an idle stream without its beginning: from what a longer one costs more."""
        turns = zip(
            self.runs["idle", "adaptive"],
            self.runs["idle for long", "adaptive"],
            self.runs["idle", "ffmpeg"],
            strict=True,
        )
        more = self.stream_s["idle for long"] / self.stream_s["idle"] - 1
        return round(
            statistics.median(
                (longer.cpu_s - brief.cpu_s) / more / reference.cpu_s
                for brief, longer, reference in turns
            ),
            3,
        )

    def _file(self, name: str, seconds: float | None = None, activity: str = "") -> Path:
        made = streams.recipe(activity or name, self.encoder, seconds or self.given.seconds)
        self.stream_s[name] = made.seconds
        return streams.stream(self.given.folder, made)

    def _run(self, activity: str, way: str, file: Path, **known: Any) -> Run:
        stage.say(f"{self.encoder}, {activity}: {way}")
        run = contenders.measured(Order(way=way.split()[0], file=str(file), **known))
        self.runs[activity, way].append(run)
        return run


# --- what is found -----------------------------------------------------------------------------


def _recall(folder: Path) -> dict[str, Any]:
    """Visits of all lengths: adaptive against full decoding."""
    made = streams.recipe("visits")
    file = streams.stream(folder, made)
    stage.say("visits of all lengths, full and adaptive")
    full, adaptive = (
        contenders.measured(Order(way=way, file=str(file))) for way in ("full", "adaptive")
    )
    agreement = incidents.compare(
        _incidents(full), _incidents(adaptive), {_RULE: streams.MIN_VISIT_S}, sorted(full.looks)
    )
    found, missed = len(agreement.found), len(agreement.missed)
    return {
        "incident_recall": round(found / (found + missed), 3) if found + missed else None,
        "start_error_ms_max": max(
            (abs(pair.start_error_ms) for pair in agreement.found), default=None
        ),
        "end_error_ms_max": max((abs(pair.end_error_ms) for pair in agreement.found), default=None),
        "incidents_extra": len(agreement.extra),
        "recall_by_length": {
            name: {"full": whole, "adaptive": ours}
            for name, (whole, ours) in incidents.by_length([agreement]).items()
            if whole
        },
        "visits_s": [length_s for _, length_s in made.visits],
        "min_visit_s": streams.MIN_VISIT_S,
    }


def _incidents(run: Run) -> Sequence[incidents.Incident]:
    return incidents.incidents([decode_event(bytes(body)) for body in run.events], _LOOK_S)


# --- memory ------------------------------------------------------------------------------------


def _memory(folder: Path) -> dict[str, Any]:
    """What one more live stream costs a decode process."""
    result: dict[str, Any] = {"rss": {}}
    for encoder in ("reference", "bframes", "h265"):
        stage.say(f"memory of live {encoder} streams")
        figures = box.memory(folder, encoder)
        name = "rss_per_stream_mb" if encoder == "reference" else f"rss_per_{encoder}_stream_mb"
        result[name] = figures["per_stream_mb"]
        result["rss"][encoder] = figures
    return result


# --- for people --------------------------------------------------------------------------------


def _missed(result: dict[str, Any]) -> list[str]:
    """The bars that were not reached."""
    missed = [
        name for name, most in BARS.items() if result.get(name) is not None and result[name] > most
    ]
    return missed if result["incident_recall"] == 1.0 else [*missed, "incident_recall"]


def _show(result: dict[str, Any]) -> None:
    console = Console(stderr=True, width=100)
    for encoder, activities in result["cpu_per_stream_s"].items():
        table = Table(title=f"CPU seconds per stream second: {encoder}")
        for title in (
            "stream",
            "way",
            "median",
            "least",
            "most",
            "÷ ffmpeg",
            "decoded",
            "inferred",
        ):
            table.add_column(title, justify="left" if title in ("stream", "way") else "right")
        for activity, ways in activities.items():
            reference = ways.get("ffmpeg", activities["idle"]["ffmpeg"])["median"]
            for way, cost in ways.items():
                figures = [f"{cost[name]:.3f}" for name in ("median", "least", "most")]
                counts = [f"{cost[name]:.0f}" for name in ("decoded", "inferred")]
                table.add_row(activity, way, *figures, f"{cost['median'] / reference:.2f}", *counts)
        console.print(table)
    table = Table(title="bars")
    for title in ("key", "measured", "at most"):
        table.add_column(title, justify="left" if title == "key" else "right")
    for name, most in BARS.items():
        if name in result:
            table.add_row(name, str(result[name]), str(most))
    table.add_row("incident_recall", str(result["incident_recall"]), "(at least) 1.0")
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
