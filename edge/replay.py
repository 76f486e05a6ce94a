"""Recordings through the same path as live streams, as fast as they go.

Here: `forecourt-edge replay`. Not here: the path itself (analysis.py), serving, storing.

Every due frame is looked at, with one decoder thread and one inference thread; a recording's time 0
is the given start, and incidents are numbered under its own hash. So two runs over the same files
give the same bytes on the same machine.
"""

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, TextIO
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from edge.analysis import Analysis
from edge.checkup import Checkup
from edge.clock import Clock, SystemClock
from edge.facts import Facts
from edge.ocr import Ocr
from edge.plates import Plates
from edge.video import demand as demands
from edge.video.decode import Decoder, DecodeStats, Frame, starting_at
from edge.video.errors import SourceError
from edge.video.source import Packet, packets
from edge.vision.detect import Detector
from edge.vision.manifest import Manifest, MissingModelError, ModelError, at, find
from edge.watch import NOTHING, Seen, Watch, motion_of
from wire import specs, text
from wire.events import MAX_NUMBER, Event, encode_event
from wire.facts import MAX_FACT_BYTES, Fact, InputName, Value

BAD_INPUT = 2
MAX_FACTS = 100_000
"""Of one replay."""
Decode = Literal["task", "adaptive", "full"]
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
"""A path that was written as a URL has lost one of its slashes."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of a file of facts; `at_s` is since the beginning of the recording."""

    input: InputName
    value: Value
    t_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)] | None = None
    at_s: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)] | None = None


class ReplayError(Exception):
    """Why nothing can be replayed, one line for each problem."""


@dataclass(slots=True)
class Summary:
    """What a replay did, over all its files."""

    files: int = 0
    packets: int = 0
    frames_decoded: int = 0
    frames_analysed: int = 0
    frames_carried: int = 0
    """Pictures in which nothing had changed: what was seen before them still held."""
    caught_up_s: float = 0.0
    """Of the recordings' time: left out at first, and decoded after all."""
    idle_s: float = 0.0
    """Of the recordings' time: nothing changed, and little was decoded."""
    decode_errors: int = 0
    events: int = 0
    tracks_shed: int = 0
    video_s: float = 0.0
    wall_s: float = 0.0
    times_real_time: float = 0.0
    failed: list[str] = field(default_factory=list)
    """Why files could not be replayed to their end."""


def replay(
    file: Path,
    task: specs.Task,
    detector: Detector,
    *,
    decode: Decode = "task",
    start_ms: int = 0,
    limit_s: float | None = None,
    summary: Summary | None = None,
    progress: Callable[[int], object] = lambda _: None,
    on_look: Callable[[Seen], object] = lambda _: None,
    zone: tzinfo = UTC,
    facts: Facts | None = None,
    ocr: Ocr | None = None,
    plate_detector: Detector | None = None,
    health: specs.Health = specs.UNWATCHED,
) -> Iterator[Event]:
    """The events of one recording; open incidents end as `interrupted` with it.

    `zone` is the station's time zone, `facts` what its inputs say. `ocr` reads the plates that the
    task wants, with its `plate_detector` if it names one; None: none is read.
    `decode` says how much of it is decoded, instead of the task. `limit_s` stops after that much of
    its time. `progress` gets the bytes of each packet that was read, `on_look` each picture that is
    looked at. `health` says which faults of the camera are told, and stop rules.
    Raises SourceError if the file cannot be read, or holds no picture to be decoded;
    the events up to there have come by then.
    """
    summary = summary if summary is not None else Summary()
    stats = DecodeStats()
    scope = _scope(file)
    plates = None
    if task.spec.plates is not None and ocr is not None:
        plates = Plates(task, 0, detector.labels, scope.encode(), plate_detector)
    analysis = Analysis(task, 0, detector, scope, zone=zone, facts=facts, plates=plates)
    stream = specs.Stream(url=f"file://{quote(str(file.resolve()))}", pace="fast")
    failure: SourceError | None = None
    checkup = Checkup(task.spec.camera, task.spec.stream, scope, health)
    told: list[Event] = []

    def inspect(frame: Frame) -> bool:
        doubtful = checkup.may_be_blind
        told.extend(checkup.inspect(frame, (task.metadata.name,)))
        return doubtful and not checkup.may_be_blind

    watch = _watch(task, analysis, decode, inspect)
    decoder = Decoder(starting_at(start_ms), stats)
    try:
        for seen in watch.pictures(_counted(packets(stream), progress), decoder):
            if limit_s is not None and seen.frame.pts_s > limit_s:
                break
            yield from _taken(told)
            if checkup.may_be_blind:
                yield from analysis.close("interrupted") if checkup.is_blind else ()
                watch.looked(NOTHING, seen.frame.pts_s, restless=False)
                continue
            on_look(seen)
            yield from _looked(seen, analysis, detector, watch, summary)
            if ocr is not None:
                for ask in analysis.asks():
                    yield from analysis.answer(ask, ocr.read(ask.image, ask.detector))
    except SourceError as error:
        failure = error
    yield from _taken(told)
    yield from analysis.close("interrupted")
    yield from checkup.close("interrupted")
    summary.files += 1
    summary.packets += stats.packets
    summary.frames_decoded += stats.frames
    summary.decode_errors += stats.errors
    summary.tracks_shed += analysis.tracks_shed
    summary.caught_up_s += watch.caught_up_s
    summary.idle_s += watch.idle_s
    summary.video_s += watch.now_s if limit_s is None else min(limit_s, watch.now_s)
    if failure is not None:
        raise failure
    if not stats.frames:
        raise SourceError(
            f"reading {stream.url}: not one of its {stats.packets} packets could be decoded; "
            "look whether the file is whole"
        )


def _taken(events: list[Event]) -> list[Event]:
    """What is in the list, which is empty then."""
    taken = events.copy()
    events.clear()
    return taken


def _watch(
    task: specs.Task, analysis: Analysis, decode: Decode, inspect: Callable[[Frame], bool]
) -> Watch:
    """A watch for one task, whatever it says of its decoding if `decode` says otherwise."""
    if decode != "task":
        spec = task.spec.model_copy(update={"decode": decode})
        task = task.model_copy(update={"spec": spec})
    watch = Watch(demands.of_task(task), motion_of((task,)), inspect=inspect)
    watch.analyses = (analysis,)
    return watch


def _looked(
    seen: Seen, analysis: Analysis, detector: Detector, watch: Watch, summary: Summary
) -> list[Event]:
    """What a picture brings."""
    if seen.quiet:
        summary.frames_carried += 1
        return analysis.carry(seen.frame, level=seen.level)
    detections = detector.detect_frame(seen.frame)
    summary.frames_analysed += 1
    differs = seen.check and analysis.differs(detections)
    if seen.check and not differs:
        events = analysis.carry(seen.frame, level=seen.level)
    else:
        events = analysis.look(seen.frame, detections, level=seen.level)
    watch.looked(detections.boxes, seen.frame.pts_s, restless=analysis.restless, differs=differs)
    return events


def command(
    *,
    files: Sequence[Path],
    task_file: Path,
    model: str | None = None,
    models: Sequence[Path] = (),
    start: str = "2026-01-01T00:00:00Z",
    time_zone: str = "UTC",
    inputs: Path | None = None,
    decode: Decode = "task",
    health: bool = True,
    as_json: bool = False,
    out: BinaryIO | None = None,
    err: TextIO | None = None,
    clock: Clock | None = None,
) -> int:
    """Replay files under a task; events as JSON lines on `out`. Returns the exit code.

    `model` is a name, or the path of an `.onnx` file or a `model.toml`; without it the task's own
    model is used. `inputs` is a file of facts, see `read_facts`. `health`: faults of the
    camera are told too, and no rule is applied to what a blind one shows. A file that cannot be
    read gets a line on `err` and makes the code 2 at the end; the events of the others are written
    anyway.
    """
    out, err = out or sys.stdout.buffer, err or sys.stderr
    clock = clock or SystemClock()
    try:
        _require_files(files)
        task = read_task(task_file)
        detector = Detector(_manifest(model, models, task), threads=1)
        start_ms = _milliseconds(start)
        zone = _zone(time_zone)
        facts = None if inputs is None else read_facts(inputs, start_ms)
        # The classes are checked before the first file is touched.
        Analysis(task, 0, detector, "")
        ocr, plate_detector = _for_plates(task, models)
    except (ReplayError, ModelError) as error:
        _say(err, str(error))
        return BAD_INPUT
    except specs.SpecError as error:
        _say(err, _problems(task_file, error))
        return BAD_INPUT

    summary = Summary()
    began_s = clock.monotonic_s()
    with _progress(err) as bar:
        for file in files:
            shown = bar.add_task(file.name, total=_size_bytes(file))
            try:
                for event in replay(
                    file, task, detector, decode=decode, start_ms=start_ms, summary=summary,
                    progress=partial(bar.advance, shown), zone=zone, facts=facts,
                    ocr=ocr, plate_detector=plate_detector,
                    health=specs.Health() if health else specs.UNWATCHED,
                ):  # fmt: skip
                    summary.events += 1
                    out.write(encode_event(event) + b"\n")
            except SourceError as error:
                summary.failed.append(str(error))
                _say(err, str(error))
    summary.wall_s = clock.monotonic_s() - began_s
    summary.times_real_time = summary.video_s / max(summary.wall_s, 1e-9)
    if as_json:
        out.write(msgspec.json.encode(_rounded(summary)) + b"\n")
    out.flush()
    _say(err, _sentence(summary))
    return BAD_INPUT if summary.failed else 0


def read_task(path: Path) -> specs.Task:
    """The task in a YAML file. Raises ReplayError, or SpecError with every problem."""
    try:
        with path.open("rb") as file:
            documents = text.read(file.read(text.MAX_BYTES + 1))
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror}") from None
    except text.TextError as error:
        raise ReplayError(f"{path}: no valid YAML: {error}") from None
    if len(documents) != 1:
        raise ReplayError(f"{path}: one Task is needed here, not {len(documents)} documents")
    resource = specs.parse(documents[0].content)
    if not isinstance(resource, specs.Task):
        raise ReplayError(f"{path}: kind: a Task is needed here, this is a {resource.kind}")
    return resource


def read_facts(path: Path, start_ms: int) -> Facts:
    """What inputs said, of a file with one fact as JSON in each line. Raises ReplayError.

    `{"input": "nozzle-2", "value": "lifted", "at_s": 12.5}`: seconds after the recording's
    beginning, or `t_ms`, UTC milliseconds.
    """
    decoder = msgspec.json.Decoder(_Line)
    facts = Facts(most=MAX_FACTS)
    try:
        with path.open("rb") as file:
            for number in range(1, MAX_FACTS + 2):
                line = file.readline(MAX_FACT_BYTES + 1)
                if not line:
                    return facts
                if len(line) > MAX_FACT_BYTES:
                    raise ReplayError(f"{path}:{number}: longer than {MAX_FACT_BYTES} bytes")
                if line.strip():
                    facts.put(_fact(decoder, line, start_ms, f"{path}:{number}"))
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror}") from None
    raise ReplayError(f"{path}: more than {MAX_FACTS} facts")


def _fact(decoder: "msgspec.json.Decoder[_Line]", line: bytes, start_ms: int, where: str) -> Fact:
    try:
        said = decoder.decode(line)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ReplayError(f"{where}: no fact: {error}") from None
    if (said.t_ms is None) == (said.at_s is None):
        raise ReplayError(f"{where}: give either at_s or t_ms")
    t_ms = said.t_ms if said.t_ms is not None else start_ms + round((said.at_s or 0.0) * 1000)
    if t_ms < 0:
        raise ReplayError(f"{where}: no fact: at_s is before 1970")
    return Fact(input=said.input, value=said.value, t_ms=t_ms)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ReplayError(
            f"--time-zone {name}: there is none; write for example Europe/Berlin"
        ) from None


def _manifest(model: str | None, folders: Sequence[Path], task: specs.Task) -> Manifest:
    """The model that was asked for: a path where it looks like one, else a name."""
    if model is not None and ("/" in model or model.endswith((".onnx", ".toml"))):
        return at(Path(model))
    name = model if model is not None else task.spec.model.name
    try:
        return find(folders, name)
    except MissingModelError as error:
        raise ReplayError(
            f"{error}\nrun: forecourt models pull {name}, or give --model FILE"
        ) from None


def _for_plates(task: specs.Task, folders: Sequence[Path]) -> tuple[Ocr | None, Detector | None]:
    """What reads plates, and what finds them, where the task wants any."""
    if task.spec.plates is None:
        return None, None
    name = task.spec.plates.detector
    return Ocr(), None if name is None else Detector(find(folders, name), threads=1)


def _require_files(files: Sequence[Path]) -> None:
    """Raises ReplayError for addresses, without the passwords that may stand in them."""
    if bad := [found[1] for file in files if (found := _ADDRESS.match(str(file)))]:
        raise ReplayError(
            "\n".join(
                f"{scheme}: address: replay takes files; give the path of a recording"
                for scheme in bad
            )
        )


def _scope(file: Path) -> str:
    """The first 12 hex digits of a file's hash. An unreadable file is the source's to report."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()[:12]
    except OSError:
        return "unreadable"


def _counted(source: Iterator[Packet], progress: Callable[[int], object]) -> Iterator[Packet]:
    for packet in source:
        progress(packet.size_bytes)
        yield packet


def _milliseconds(start: str) -> int:
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        raise ReplayError(f"--start {start}: write for example 2026-01-01T00:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _progress(err: TextIO) -> Progress:
    """A bar for people; nothing where `err` is no terminal."""
    console = Console(file=err)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _size_bytes(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def _problems(path: Path, error: specs.SpecError) -> str:
    return "\n".join(f"{path}: {problem}" for problem in error.problems)


def _say(err: TextIO, text: str) -> None:
    err.write(f"{text}\n")
    err.flush()


def _rounded(summary: Summary) -> Summary:
    """The summary with figures that people can read."""
    for name in ("video_s", "wall_s", "times_real_time", "caught_up_s", "idle_s"):
        setattr(summary, name, round(getattr(summary, name), 3))
    return summary


def _sentence(summary: Summary) -> str:
    failed = f", {len(summary.failed)} failed" if summary.failed else ""
    return (
        f"{summary.files} files{failed}: {summary.video_s:.1f} s of video in "
        f"{summary.wall_s:.1f} s ({summary.times_real_time:.1f} times real time), "
        f"{summary.packets} packets read, {summary.frames_decoded} frames decoded, "
        f"{summary.frames_analysed} analysed, {summary.frames_carried} unchanged, "
        f"{summary.decode_errors} decode errors, "
        f"{summary.events} events"
    )
