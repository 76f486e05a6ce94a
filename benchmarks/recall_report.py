"""What `recall` found, in figures and in Markdown.

Here: sums, tables, sentences. Not here: running anything.
"""

import os
import platform
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import av
import cv2
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

from benchmarks import encodings, visits
from benchmarks.incidents import NEAR_MS, Incident, bucket_of, by_length, incidents
from benchmarks.recordings import SEEN_BY
from benchmarks.trial import Run, Trial, cpu_ratio
from edge.vision.track import LIKE

Results = Sequence[tuple[Trial, list[visits.Visit]]]


def figures(trials: Iterable[Trial]) -> dict[str, Any]:
    """The sums of some trials."""
    told = list(trials)
    found = [pair for each in told for pair in each.agreement.found]
    exchanged = [pair for each in told for pair in each.agreement.exchanged]
    timed = [
        pair
        for each in told
        for pair in each.agreement.found
        if pair not in each.agreement.exchanged and pair.full not in each.agreement.wavering
    ]
    missed = sum(len(each.agreement.missed) for each in told)
    video_s = sum(each.adaptive.summary.video_s for each in told)
    frames = sum(each.full.summary.frames_decoded for each in told)
    ratio = cpu_ratio(told)
    return {
        "trials": len(told),
        "agree": sum(each.agrees for each in told),
        "video_s": round(video_s, 1),
        "incidents": len(found) + missed,
        "found": len(found),
        "incident_recall": round(len(found) / (len(found) + missed), 4) if found or missed else 1.0,
        "extra": sum(len(each.agreement.extra) for each in told),
        "at_another_time": sum(len(each.agreement.late) for each in told),
        "ends_exchanged": len(exchanged),
        "wavering": sum(len(each.agreement.wavering) for each in told),
        "start_error_ms_max": max((abs(pair.start_error_ms) for pair in timed), default=0),
        "end_error_ms_max": max((abs(pair.end_error_ms) for pair in timed), default=0),
        "recall_by_length": {
            name: [full, other]
            for name, (full, other) in by_length(each.agreement for each in told).items()
        },
        "awake_share": round(
            sum(each.awake_share * each.adaptive.summary.video_s for each in told)
            / max(video_s, 1e-9),
            3,
        ),
        "decoded_share": round(
            sum(each.adaptive.summary.frames_decoded for each in told) / max(frames, 1), 3
        ),
        "inferred_share": round(
            sum(each.adaptive.summary.frames_analysed for each in told)
            / max(sum(each.full.summary.frames_analysed for each in told), 1),
            3,
        ),
        "cpu_ratio_without_inference": None if ratio is None else round(ratio, 3),
        "other_pictures": sum(each.other_pictures for each in told),
    }


def disagreements(made: Trial) -> Iterator[str]:
    """A sentence for each thing that is not the same, with its time in the recording."""
    if bool(made.full.refused) != bool(made.adaptive.refused):
        yield f"refused by one only: {made.full.refused or made.adaptive.refused}"
    for incident in made.agreement.missed:
        yield f"missed: {_shown(incident)}"
    for incident in made.agreement.extra:
        yield f"extra: {_shown(incident)}"
    for incident in made.agreement.wavering:
        yield f"wavering, in full decoding alone: {_shown(incident)}"
    apart = [("at another time", pair) for pair in made.agreement.late]
    for why, pair in apart + [("ends exchanged", pair) for pair in made.agreement.exchanged]:
        yield (
            f"{why}: {_shown(pair.full)}; adaptive {pair.start_error_ms:+d} ms at its "
            f"start, {pair.end_error_ms:+d} ms at its end"
        )


def _shown(incident: Incident) -> str:
    what = " ".join(part for part in (incident.label, incident.direction) if part)
    when = f"{incident.since_ms / 1000:.2f}"
    if incident.last_ms != incident.since_ms:
        when += f" to {incident.last_ms / 1000:.2f}"
    return f"{incident.rule}{f' ({what})' if what else ''} at {when} s"


def written(results: Results, sums: dict[str, Any], command: str) -> str:
    """The report; `command` is what wrote it."""
    trials = [made for made, _ in results]
    scenes = [(made, truth) for made, truth in results if truth]
    told = [line for made in trials for line in _listed(made)]
    parts = [
        "# Adaptive against full decoding\n",
        _opening(sums, command),
        "## By encoding\n",
        _table(
            ["what", "encoding", *_COLUMNS],
            [
                [what, variant or "as it is", *_row(some)]
                for what, group in (
                    ("recordings", [made for made, truth in results if not truth]),
                    ("scenes", [made for made, _ in scenes]),
                )
                for variant, some in _grouped(group, lambda made: made.variant).items()
            ],
        ),
        "\n".join(f"- `{v.name}`: {v.what}." for v in encodings.VARIANTS.values()) + "\n",
        "## By length of visit\n",
        _lengths(sums, scenes),
        "## Scenes as they are, by weather\n",
        _table(
            ["weather", *_COLUMNS],
            [
                [weather, *_row(some)]
                for weather, some in _grouped(
                    (made for made, _ in scenes if not made.variant),
                    lambda made: made.recording.rpartition("-")[2],
                ).items()
            ],
        ),
        "## Recordings as they are\n",
        _table(
            ["recording", *_COLUMNS],
            [
                [made.recording, *(_row([made]) if not made.full.refused else _refusal(made))]
                for made, truth in results
                if not truth and not made.variant
            ],
        ),
        "## Where both differ\n",
        "\n".join(told) + "\n" if told else "Nowhere.\n",
    ]
    return "\n".join(parts)


def _opening(sums: dict[str, Any], command: str) -> str:
    system = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    versions = f"PyAV {av.__version__}, OpenCV {cv2.__version__}, ONNX Runtime {ort.__version__}"
    ratio = sums["cpu_ratio_without_inference"]
    text = f"""\
Written by `{command}` on {datetime.now(UTC):%Y-%m-%d} ({system}; Python \
{platform.python_version()}, {versions}), in {sums["wall_s"] / 60:.0f} minutes.

**{sums["agree"]} of {sums["trials"]} trials agree.** Of {sums["incidents"]} incidents with a \
visit that a rule must see, adaptive decoding found {sums["found"]} (recall \
{sums["incident_recall"]:g}); {sums["extra"]} it has alone; {sums["at_another_time"]} begin or end \
more than one look apart. The \
largest difference is {sums["start_error_ms_max"]} ms at a start and {sums["end_error_ms_max"]} ms \
at an end. {sums["awake_share"]:.0%} of the time was spent awake, {sums["decoded_share"]:.0%} of \
the pictures were decoded, and {sums["inferred_share"]:.0%} of the looks inferred; without \
inference, adaptive takes {ratio:.2f} of the CPU of full decoding. These recordings are busy on \
purpose: what an idle stream costs is measured by `benchmarks.decode`.

Each trial replays one file twice (`edge.replay`), once with every frame decoded, once adaptively, \
with the same task and detector. An incident is found if the other run has one of the same rule, a \
like class and the same direction, at most {NEAR_MS / 1000:g} s away; each counts once. It is at \
another time if its start (`since`) or its end is more than one analysed frame apart; \
{sums["ends_exchanged"]} are not counted there, because two like objects that were next to each \
other have only exchanged their ends (a tracker chose otherwise), and {sums["wavering"]} because \
full decoding alone has them begin or end while, by the ground truth, nothing in the picture \
changed (the detector wavered; what is carried does not). Both are listed below. Visits below \
`min_visit` are not counted above; how many of them were seen all the same stands by length below. \
The detector is deterministic: where both runs look at the same picture (time and every pixel of \
its luma plane), the result of the first is used again. Pictures that came out otherwise at the \
same moment: {sums["other_pictures"]}.
"""
    wrapped = (textwrap.fill(each, 110, break_on_hyphens=False) for each in text.split("\n\n"))
    return "\n\n".join(wrapped) + "\n"


_COLUMNS = [
    "trials", "agree", "incidents", "found", "extra", "other time", "start ms", "end ms",
    "awake", "decoded", "CPU",
]  # fmt: skip


def _row(trials: Sequence[Trial]) -> list[object]:
    sums = figures(trials)
    ratio = sums["cpu_ratio_without_inference"]
    return [
        sums["trials"], sums["agree"], sums["incidents"], sums["found"], sums["extra"],
        sums["at_another_time"], sums["start_error_ms_max"], sums["end_error_ms_max"],
        f"{sums['awake_share']:.0%}", f"{sums['decoded_share']:.0%}",
        "" if ratio is None else f"{ratio:.2f}",
    ]  # fmt: skip


def _refusal(made: Trial) -> list[object]:
    both = "refused by both" if made.adaptive.refused else "refused by full only"
    return [1, int(made.agrees), both, *[""] * (len(_COLUMNS) - 3)]


def _lengths(sums: dict[str, Any], scenes: Results) -> str:
    seen: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for made, truth in scenes:
        if made.variant:
            continue
        by_run = [_sightings(run, made) for run in (made.full, made.adaptive)]
        for visit in truth:
            row = seen[bucket_of(visit.length_s)]
            row[0] += 1
            for column, sightings in enumerate(by_run, 1):
                row[column] += any(_saw(each, visit) for each in sightings)
    rows = [
        [name, full, found, *seen[name]] for name, (full, found) in sums["recall_by_length"].items()
    ]
    return (
        "Left: incidents of all trials, those below `min_visit` included. Right: visits as they "
        "were drawn, in the scenes as they are, and whether the rule that sees every object "
        "saw them; what full decoding does not see either, the detector missed.\n\n"
    ) + _table(
        ["visit", "incidents in full", "in adaptive", "drawn", "seen by full", "seen by adaptive"],
        rows,
    )


def _sightings(run: Run, made: Trial) -> list[Incident]:
    return [each for each in incidents(run.events, made.look_s) if each.rule == SEEN_BY]


def _saw(incident: Incident, visit: visits.Visit) -> bool:
    """Whether it is of such an object and holds at some time of the visit, and not much longer."""
    like = LIKE.get(incident.label, incident.label) == LIKE.get(visit.label, visit.label)
    first_ms, last_ms = visit.first_s * 1000, visit.last_s * 1000
    return (
        like
        and incident.since_ms <= last_ms
        and incident.last_ms >= first_ms
        and incident.visit_s <= visit.length_s + NEAR_MS / 1000
    )


def _listed(made: Trial) -> Iterator[str]:
    for line in disagreements(made):
        yield f"- {made.recording}, {made.variant or 'as it is'}: {line}"


def _grouped(trials: Iterable[Trial], key: Callable[[Trial], str]) -> dict[str, list[Trial]]:
    groups: dict[str, list[Trial]] = defaultdict(list)
    for made in trials:
        groups[key(made)].append(made)
    return groups


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(head), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
