"""Incidents against the truth of rendered scenes: of perfect detections, and of our detector.

Here: the incidents that the truth itself gives, counted in the plainest way, and how many of them
our path finds and invents. Not here: the scenes (crowds.py), what an incident is (incidents.py),
rules against an oracle (tests).

Perfect detections are the exact boxes of what is visible at each look, without names: tracks and
rules must make the right incidents of them. Our detector gets the same scenes as an encoded
recording, through the whole of replay.

    python -m benchmarks.rules --json
"""

import hashlib
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from benchmarks import crowds, stage
from benchmarks.incidents import Incident, incidents
from edge.analysis import Analysis
from edge.facts import Facts
from edge.replay import replay
from edge.video.decode import Frame
from edge.vision.detect import Detections, Detector
from edge.vision.manifest import find
from edge.vision.track import LIKE
from models import scenes, solids
from wire import specs
from wire.events import Event
from wire.facts import Fact

SCENES = 30
PIXEL_SCENES = 8
FPS = 5
PIXEL_FPS = 10
GRACE_S = 1.0
SCORE = 0.9
HIDDEN_LOOKS = 3
"""Who is hidden for so many looks on the way over a line crosses it unseen."""
NEAR_MS = 1000
"""Moments of the same crossing are no further apart; a wide vehicle takes its time."""
CLEARLY = 0.01
"""An object is on a side of a line when it is this far from it, in parts of the picture."""
UNSEEN = "unseen"
VEHICLES = ["car", "truck", "bus"]
CLASSES = ["person", *VEHICLES]
NETWORK = "forecourt-nano"


@dataclass(frozen=True, slots=True)
class Thing:
    """What is visible of one object at one look."""

    label: str
    foot: tuple[float, float]
    height: float


Shown = Mapping[int, Thing]
"""What is visible at one look, by the objects' true numbers."""
Moments = Sequence[tuple[int, Shown]]
"""Looks by their time in milliseconds, and the moments of facts between them."""


@dataclass(slots=True)
class Figures:
    """How many incidents there are, were found, and how much later they began."""

    true: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    extra: Counter[str] = field(default_factory=Counter)
    unseen: int = 0
    """Lines that were crossed while the object was hidden."""
    unseen_found: int = 0
    late_ms: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Figures") -> None:
        """Take in those of another scene."""
        self.true += other.true
        self.right += other.right
        self.extra += other.extra
        self.unseen += other.unseen
        self.unseen_found += other.unseen_found
        self.late_ms += other.late_ms
        self.wrong += other.wrong

    def told(self, prefix: str) -> dict[str, Any]:
        """What is reported."""
        right = self.right.total()
        return {
            f"{prefix}_incidents": self.true.total(),
            f"{prefix}_precision": round(right / max(1, right + self.extra.total()), 4),
            f"{prefix}_recall": round(right / max(1, self.true.total()), 4),
            f"{prefix}_start_error_ms_p95": stage.percentile(
                [abs(ms) for ms in self.late_ms], 0.95
            ),
            f"{prefix}_crossed_unseen": self.unseen,
            f"{prefix}_crossed_unseen_found": self.unseen_found,
            f"{prefix}_by_rule": {
                rule: {"true": n, "right": self.right[rule], "extra": self.extra[rule]}
                for rule, n in sorted(self.true.items())
            },
        }


# --- the task ----------------------------------------------------------------------------------


def task(seed: int) -> specs.Task:
    """What watches a scene."""
    layout = scenes.layout_of(crowds.scene(seed))
    at_pump = {"class": VEHICLES, "in": "pump-1"}
    somebody = {"count": {"class": "person", "in": "pump-1"}, "at_least": 1}
    rules: list[dict[str, Any]] = [
        {"name": "unloading", "when": {"class": "person", "in": "unload"}, "for": "2s"},
        {"name": "at-pump", "when": at_pump, "for": "3s"},
        {"name": "drive-by", "when": {"class": VEHICLES, "crosses": "exit"}},
        {"name": "walk-by", "when": {"class": "person", "crosses": "middle"}},
        {"name": "crowd", "when": {"count": {"class": "person", "in": "unload"}, "at_least": 2}},
        {
            "name": "alone",
            "when": {"all": [{"count": at_pump, "at_least": 1}, {"not": somebody}]},
            "for": "2s",
        },
        {"name": "fuelling", "when": at_pump | {"while": {"input": "nozzle", "is": "lifted"}}},
    ]
    made = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": "watch", "station": "benchmark"},
            "spec": {
                "camera": f"crowd-{seed}",
                "fps": FPS,
                "model": {"name": NETWORK, "classes": CLASSES},
                "zones": {name: layout["zones"][name] for name in ("unload", "pump-1")},
                "lines": layout["lines"] | {"middle": [[0.5, 0.95], [0.5, 0.3]]},
                "rules": [
                    {"grace": GRACE_S} | r if "crosses" not in r["when"] else r for r in rules
                ],
            },
        }
    )
    assert isinstance(made, specs.Task)
    return made


def nozzle(seed: int) -> list[Fact]:
    """When the nozzle is lifted and hung up again."""
    rng = np.random.default_rng([8, seed])
    moments_ms = np.sort(rng.integers(0, round(crowds.LENGTH_S * 1000), 4)).tolist()
    return [
        Fact(input="nozzle", value="hung" if n % 2 else "lifted", t_ms=int(t_ms))
        for n, t_ms in enumerate(moments_ms)
    ]


# --- the truth ---------------------------------------------------------------------------------


def truth(seed: int, looks: Sequence[Shown]) -> list[Incident]:
    """The incidents of a scene, of its objects' true numbers at the looks of the task."""
    spec = task(seed).spec
    facts = nozzle(seed)
    moments = _moments(looks, facts)
    shown = [look for _, look in moments]
    within = {name: _within(outline, shown) for name, outline in spec.zones.items()}

    def inside(zone: str, labels: Sequence[str], n: int) -> set[int]:
        return {id_ for id_ in within[zone][n] if shown[n][id_].label in labels}

    def counted(zone: str, labels: Sequence[str], n: int) -> int:
        """With those that are hidden for no longer than grace, where they were seen last."""
        found: set[int] = set()
        known: set[int] = set()
        for before in range(n, -1, -1):
            if moments[n][0] - moments[before][0] > GRACE_S * 1000:
                break
            found |= inside(zone, labels, before) - known
            known |= set(shown[before])
        return len(found)

    def lifted(n: int) -> bool:
        said = [fact.value for fact in facts if fact.t_ms <= moments[n][0]]
        return bool(said) and said[-1] == "lifted"

    held: dict[str, Callable[[int], set[int]]] = {
        "unloading": lambda n: inside("unload", ["person"], n),
        "at-pump": lambda n: inside("pump-1", VEHICLES, n),
        "crowd": lambda n: {0} if counted("unload", ["person"], n) >= 2 else set(),
        "alone": lambda n: (
            {0}
            if counted("pump-1", VEHICLES, n) and not counted("pump-1", ["person"], n)
            else set()
        ),
        "fuelling": lambda n: inside("pump-1", VEHICLES, n) if lifted(n) else set(),
    }
    found = []
    for rule in spec.rules:
        if isinstance(rule.when, specs.Crossing):
            found += list(_crossings(rule, np.array(spec.lines[rule.when.line]), moments))
        else:
            found += list(_stays(rule, list(map(held[rule.name], range(len(moments)))), moments))
    return found


def _moments(looks: Sequence[Shown], facts: Sequence[Fact]) -> list[tuple[int, Shown]]:
    """Looks and, between them, the moments of facts with what was seen before."""
    at_looks = {round(n * 1000 / FPS): look for n, look in enumerate(looks)}
    at_facts = {fact.t_ms: looks[fact.t_ms * FPS // 1000] for fact in facts}
    return sorted((at_facts | at_looks).items())


def _within(outline: Sequence[tuple[float, float]], shown: Sequence[Shown]) -> list[set[int]]:
    """Who is in a zone at each look, as the guide has it: who was in it may be a little outside."""
    corners, was, found = np.array(outline, np.float32), set[int](), []
    for look in shown:
        deep = {i: cv2.pointPolygonTest(corners, thing.foot, True) for i, thing in look.items()}
        least = {i: -max(0.005, 0.05 * look[i].height) if i in was else 0.0 for i in look}
        found.append({i for i in look if deep[i] >= least[i]})
        was = (was - set(look)) | found[-1]  # who is hidden is where he was
    return found


def _stays(rule: specs.Rule, held: Sequence[set[int]], moments: Moments) -> Iterator[Incident]:
    """Stretches in which a rule holds for an object, with gaps up to grace, if they are enough."""
    for id_ in sorted(set().union(*held)):
        looks = [n for n, ids in enumerate(held) if id_ in ids]
        times_ms = np.array([moments[n][0] for n in looks])
        for part in np.split(looks, np.flatnonzero(np.diff(times_ms) > GRACE_S * 1000) + 1):
            first, last = int(part[0]), int(part[-1])
            if moments[last][0] - moments[first][0] >= rule.for_ * 1000:
                label = moments[first][1][id_].label if id_ else ""
                yield _incident(rule, label, "", moments[first][0], moments[last][0])


def _crossings(rule: specs.Rule, line: crowds.Floats, moments: Moments) -> Iterator[Incident]:
    """Ways of objects from clearly one side to clearly the other, between the line's ends."""
    (ax, ay), (bx, by) = line
    length = float(np.hypot(bx - ax, by - ay))
    assert isinstance(rule.when, specs.Crossing)
    for id_ in sorted({id_ for _, look in moments for id_ in look}):
        before: tuple[float, tuple[float, float]] | None = None
        hidden = 0
        for t_ms, look in moments:
            thing = look.get(id_)
            if thing is None or thing.label not in rule.when.classes:
                hidden += 1
                continue
            x, y = thing.foot
            away = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / length  # above 0: to the right
            if abs(away) < CLEARLY:
                continue
            if before is not None and before[0] * away < 0:
                # Where on the way, and so where on the line, it goes over.
                part = before[0] / (before[0] - away)
                over = [p + part * (q - p) for p, q in zip(before[1], (x, y), strict=True)]
                along = ((over[0] - ax) * (bx - ax) + (over[1] - ay) * (by - ay)) / length**2
                if 0 <= along <= 1:
                    way = "left-to-right" if away > 0 else "right-to-left"
                    name = UNSEEN if hidden >= HIDDEN_LOOKS else ""
                    made = _incident(rule, thing.label, way, t_ms, t_ms)
                    yield replace(made, kind=name or made.kind)
            before, hidden = (away, (x, y)), 0


def _incident(
    rule: specs.Rule, label: str, direction: str, since_ms: int, last_ms: int
) -> Incident:
    visit_s = (last_ms - since_ms) / 1000
    return Incident(rule.kind, rule.name, label, direction, since_ms, last_ms, visit_s)


# --- what our path makes of it -----------------------------------------------------------------


def perfect(seed: int, folder: Path) -> Figures:
    """The figures of one scene with the exact boxes."""
    every = crowds.FPS // FPS
    looks = crowds.looks(seed, folder)[::every]
    detector = cast("Detector", SimpleNamespace(labels=tuple(solids.LABELS)))
    analysis = Analysis(task(seed), 1, detector, "b", facts=_facts(seed))
    events: list[Event] = []
    for n, look in enumerate(looks):
        moment = SimpleNamespace(pts_s=n / FPS, t_ms=round(n * 1000 / FPS))
        events += analysis.look(cast("Frame", moment), _exact(look))
    events += analysis.close("interrupted")
    return compared(f"scene {seed}", truth(seed, _shown(looks)), incidents(events, 1 / FPS))


def seen(seed: int, folder: Path) -> Figures:
    """The figures of one scene with our detector, on an encoded recording."""
    looks = crowds.looks(seed, folder)[:: crowds.FPS // FPS]
    detector = Detector(find([stage.ROOT / "models"], NETWORK), threads=1)
    path = _encoded(seed, folder)
    events = list(replay(path, task(seed), detector, decode="full", facts=_facts(seed)))
    return compared(f"pixels {seed}", truth(seed, _shown(looks)), incidents(events, 1 / FPS))


def _facts(seed: int) -> Facts:
    facts = Facts()
    for fact in nozzle(seed):
        facts.put(fact)
    return facts


def _exact(look: crowds.Look) -> Detections:
    boxes = look.boxes.astype(np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(len(boxes), SCORE, np.float32), look.labels)


def _shown(looks: Iterable[crowds.Look]) -> list[Shown]:
    return [
        {
            id_: Thing(label, ((x1 + x2) / 2, y2), y2 - y1)
            for id_, label, (x1, y1, x2, y2) in zip(
                look.ids, look.labels, look.boxes.tolist(), strict=True
            )
        }
        for look in looks
    ]


def _encoded(seed: int, folder: Path) -> Path:
    """The scene as a camera would send it; drawn once."""
    sources = [Path(file) for file in (__file__, crowds.__file__, scenes.__file__, solids.__file__)]
    recipe = hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()[:10]
    path = folder / f"crowd-{seed:03d}-{recipe}.mp4"
    if path.exists():
        return path
    drawn = scenes.Stage(crowds.scene(seed), seed)
    draft = path.with_suffix(".draft.mp4")
    with av.open(str(draft), "w") as container:
        options = {"preset": "veryfast", "crf": "23", "g": str(2 * PIXEL_FPS), "bf": "0"}
        track = container.add_stream("libx264", rate=PIXEL_FPS, options=options)
        assert isinstance(track, VideoStream)
        track.width, track.height, track.pix_fmt = crowds.WIDTH, crowds.HEIGHT, "yuv420p"
        track.codec_context.thread_count = 1
        for number in range(round(crowds.LENGTH_S * PIXEL_FPS)):
            frame = av.VideoFrame.from_ndarray(drawn.frame(number / PIXEL_FPS)[0], format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, PIXEL_FPS)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    draft.rename(path)
    return path


# --- beside each other -------------------------------------------------------------------------


def compared(name: str, true: Sequence[Incident], found: Sequence[Incident]) -> Figures:
    """Which of the true incidents were found; each stands for one alone, nearest starts first.

    A line that was crossed unseen is counted apart: found or not, it is neither right nor wrong.
    """
    figures = Figures()
    candidates = sorted(
        (abs(mine.since_ms - other.since_ms), i, j)
        for i, mine in enumerate(true)
        for j, other in enumerate(found)
        if _may_be_same(mine, other)
    )
    mine_taken: set[int] = set()
    other_taken: set[int] = set()
    for _, i, j in candidates:
        if i not in mine_taken and j not in other_taken:
            mine_taken.add(i)
            other_taken.add(j)
            if true[i].kind == UNSEEN:
                figures.unseen_found += 1
            else:
                figures.right[true[i].rule] += 1
                figures.late_ms.append(found[j].since_ms - true[i].since_ms)
    unseen = {i for i, each in enumerate(true) if each.kind == UNSEEN}
    figures.unseen = len(unseen)
    figures.true = Counter(each.rule for i, each in enumerate(true) if i not in unseen)
    figures.extra = Counter(each.rule for j, each in enumerate(found) if j not in other_taken)
    for what, all_, taken in (("missed", true, mine_taken | unseen), ("extra", found, other_taken)):
        figures.wrong += [f"{name}: {what}: {e}" for i, e in enumerate(all_) if i not in taken]
    return figures


def _may_be_same(mine: Incident, other: Incident) -> bool:
    same = (mine.rule, mine.direction) == (other.rule, other.direction)
    alike = LIKE.get(mine.label, mine.label) == LIKE.get(other.label, other.label)
    apart_ms = NEAR_MS if other.kind == "crossing" else 2000 // FPS
    return (
        same
        and alike
        and mine.since_ms <= other.last_ms + apart_ms
        and other.since_ms <= mine.last_ms + apart_ms
    )


def measured(
    folder: Path = stage.ROOT / ".bench",
    *,
    count: int = SCENES,
    pixel_count: int = PIXEL_SCENES,
    jobs: int = 0,
    verbose: bool = False,
) -> dict[str, Any]:
    """Precision and recall of incidents, of perfect detections and of our detector.

    `count` scenes are judged by their exact boxes, `pixel_count` by their pictures.
    """
    began_s = time.monotonic()
    exact, pixels = Figures(), Figures()
    kept = folder / "crowds"
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1, mp_context=spawned) as pool:
        for figures in pool.map(partial(perfect, folder=kept), range(count)):
            exact.add(figures)
        stage.say(f"{count} scenes with perfect detections")
        for figures in pool.map(partial(seen, folder=kept), range(pixel_count)):
            pixels.add(figures)
        stage.say(f"{pixel_count} scenes with {NETWORK}")
    if verbose:
        for line in exact.wrong + pixels.wrong:
            stage.say(line)
    return {
        "scenes": count,
        **exact.told("perfect"),
        "detector": NETWORK,
        "detector_scenes": pixel_count,
        **pixels.told("detector"),
        "wall_s": round(time.monotonic() - began_s, 1),
    }


def main() -> None:
    """Measure and tell."""
    parser = stage.parser(__doc__)
    parser.add_argument("--verbose", action="store_true", help="tell each wrong incident")
    parser.add_argument("--jobs", type=int, default=0, help="at a time [cores]")
    given = parser.parse_args()
    result = measured(given.folder, jobs=given.jobs, verbose=given.verbose)
    stage.finish({"benchmark": "rules", **result}, given)


if __name__ == "__main__":
    main()
