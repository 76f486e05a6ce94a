"""What adaptive decoding misses, against full decoding of the same recordings: nothing.

Every recording of the assets and 50 rendered scenes are replayed twice, as they are and in other
encodings, and compared incident by incident. Recordings and encodings are kept in `.bench/recall`.

    python -m benchmarks.recall --report docs/recall.md
    python -m benchmarks.recall --sample --json
    python -m benchmarks.recall --only scene-07

Ends with 1 if anything that a rule must see was missed, invented, or came at another time.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av.error

from benchmarks import encodings, recall_report, recordings, stage, trial, visits
from edge.vision.detect import Detector
from edge.vision.manifest import find

SCENES = 50
ENCODED_SCENES = 6
"""One of each weather is encoded in other ways: those that differ from how it is."""
SAMPLE_SCENES = (0, 7)
SAMPLE_VARIANTS = ("", "opengop-h264", "gop10")
SAMPLE_RECORDING_VARIANTS = ("", "bframes", "held")
SAMPLE_RECORDING = "person-bicycle-car-detection"


@dataclass(frozen=True, slots=True)
class Job:
    """One trial. A variant "" is the recording as it is."""

    name: str
    variant: str = ""
    seed: int | None = None
    source: Path | None = None


def jobs(assets: Path | None, *, sample: bool = False) -> Iterator[Job]:
    """Every trial, the longest kinds first, so that all cores are busy to the end."""
    every = ["", *encodings.VARIANTS]
    others = [name for name in every if name not in ("plain", "held")]
    if sample:
        for seed in SAMPLE_SCENES:
            for variant in SAMPLE_VARIANTS:
                yield Job(visits.scene(seed).name, variant, seed=seed)
    else:
        for source in recordings.recordings(assets) if assets else ():
            awkward = source.parent.name == "awkward"
            for variant in [""] if awkward else every:
                yield Job(source.name, variant, source=source)
        for seed in range(SCENES):
            for variant in others if seed < ENCODED_SCENES else [""]:
                yield Job(visits.scene(seed).name, variant, seed=seed)
    if sample and assets:
        source = assets / "videos" / f"{SAMPLE_RECORDING}.mp4"
        for variant in SAMPLE_RECORDING_VARIANTS:
            yield Job(source.name, variant, source=source)


def run(job: Job, folder: Path) -> tuple[trial.Trial, list[visits.Visit]]:
    """One trial, and the true visits where they are known."""
    truth: list[visits.Visit] = []
    still_ms: list[tuple[int, int]] = []
    if job.seed is not None:
        scene = visits.scene(job.seed)
        file, truth = visits.rendered(scene, folder)
        still_ms = visits.still_ms(scene, truth)
        task, network = visits.task(scene), "forecourt-nano"
    else:
        assert job.source is not None
        file, task, network = job.source, recordings.task(job.source.stem), "yolox-nano"
        if job.variant:
            still_ms = encodings.still_ms(file, encodings.VARIANTS[job.variant])
    if job.variant:
        file = encodings.encoded(file, encodings.VARIANTS[job.variant], folder)
    made = trial.tried(
        file, task, _detector(network),
        recording=job.name, variant=job.variant, seen_by=recordings.SEEN_BY, still_ms=still_ms,
    )  # fmt: skip
    return made, truth


@lru_cache
def _detector(name: str) -> Detector:
    assets = recordings.assets()
    # The assets' first: here lies only a manifest of the networks that have to be fetched.
    folders = [*([assets / "models"] if assets else []), stage.ROOT / "models"]
    return Detector(find(folders, name), threads=1)


def _told(made: trial.Trial) -> str:
    """One line, and one for each disagreement."""
    agreement, summary = made.agreement, made.adaptive.summary
    line = (
        f"{made.recording} {made.variant or 'as it is'}: {summary.video_s:.0f} s, "
        f"{len(agreement.found) + len(agreement.missed)} incidents, "
        f"{len(agreement.missed)} missed, {len(agreement.extra)} extra, "
        f"{len(agreement.late)} at another time; awake {made.awake_share:.0%}, "
        f"decoded {summary.frames_decoded} of {made.full.summary.frames_decoded}, "
        f"{made.other_pictures} other pictures"
    )
    if made.full.refused or made.adaptive.refused:
        line += (
            f"; full: {made.full.refused or 'read'}; adaptive: {made.adaptive.refused or 'read'}"
        )
    return "\n".join([line, *(f"    {each}" for each in recall_report.disagreements(made))])


def main() -> int:
    """0 where both ways agree."""
    parser = stage.parser(__doc__)
    parser.add_argument("--sample", action="store_true", help="a few of them, within a minute")
    parser.add_argument("--only", default="", metavar="TEXT", help="whose names contain it")
    parser.add_argument("--variant", metavar="NAME", help="in this encoding; `original` as it is")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time [cores]")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write Markdown")
    given = parser.parse_args()
    assets = recordings.assets()
    if assets is None:
        stage.say("no assets (set FORECOURT_ASSETS): only rendered scenes are compared")
    wanted = [job for job in jobs(assets, sample=given.sample) if _is_wanted(job, given)]
    began_s = time.monotonic()
    results = list(_all(wanted, given.folder / "recall", given.jobs))
    trials = [made for made, _ in results]
    figures = recall_report.figures(trials)
    figures["wall_s"] = round(time.monotonic() - began_s, 1)
    if given.report:
        picked = [f"--only {given.only}"] if given.only else []
        picked += [f"--variant {given.variant}"] if given.variant else []
        picked += ["--sample"] if given.sample else []
        command = " ".join(["python -m benchmarks.recall", *picked])
        given.report.write_text(recall_report.written(results, figures, command))
    stage.finish({"benchmark": "recall", **figures}, given)
    return 0 if all(made.agrees for made in trials) else 1


def _is_wanted(job: Job, given: argparse.Namespace) -> bool:
    variant = given.variant
    return given.only in job.name and variant in (None, job.variant or "original")


def _all(
    wanted: list[Job], folder: Path, at_a_time: int
) -> Iterator[tuple[trial.Trial, list[visits.Visit]]]:
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, at_a_time), mp_context=spawned) as pool:
        started = [(job, pool.submit(run, job, folder)) for job in wanted]
        for job, one in started:
            try:
                made, truth = one.result()
            except av.error.FFmpegError as error:
                stage.say(f"{job.name} {job.variant}: cannot be encoded: {error}")
                continue
            except BaseException as error:
                error.add_note(f"the trial was {job.name} {job.variant or 'as it is'}")
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            stage.say(_told(made))
            yield made, truth


if __name__ == "__main__":
    raise SystemExit(main())
