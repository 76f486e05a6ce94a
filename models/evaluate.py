"""Scores detectors: average precision, agreement on real recordings, the demo clip, speed.

Belongs here: running a model as its model.toml says, COCO-style metrics, and the four kinds of
pictures that we score on. Does not belong here: training, the look of scenes, and the product's own
detector (edge/), which has to be fast and never needs truth. torch is not needed.

    python models/evaluate.py self-check      compares the metric with what pycocotools gave
    python models/evaluate.py                 all parts; --part rendered|real|agreement|demo for one
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnxruntime  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run as a script
from models import scenes
from models.solids import LABELS

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

HERE = Path(__file__).resolve().parent
HELD_OUT_SEED = 9_000_000  # train.py refuses to train on seeds from here on
IOU_STEPS = np.linspace(0.5, 0.95, 10)
RECALL_STEPS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100
WORKING_SCORE = 0.35  # the min_score of a task; what an operator sees
TEACHER_SCORE = 0.5
FRAME_STEP = 10
RECORDINGS = (
    "traffic_camera.mp4",
    "Traffic.mp4",
    "Traffic2.mp4",
    "Retail02_short.mp4",
    "person-bicycle-car-detection.mp4",
    "one-by-one-person-detection.mp4",
)
HELD_OUT = ("Traffic.mp4", "one-by-one-person-detection.mp4")  # teach.py takes no frame of these
REFERENCE_AP = 0.503647


@dataclass(frozen=True)
class Found:
    """Boxes of one picture: rows x0, y0, x1, y1; labels count in LABELS."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]

    def above(self, score: float) -> Found:
        """Only those with at least this score."""
        keep = self.scores >= score
        return Found(self.boxes[keep], self.scores[keep], self.labels[keep])


@dataclass(frozen=True)
class Real:
    """True boxes of one picture; a crowd neither counts as found nor as missed."""

    boxes: Floats
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]


# --------------------------------------------------------------------------- models


class Model:
    """A detector of the YOLOX layout, run as its model.toml says."""

    def __init__(self, folder: Path, file: Path | None = None) -> None:
        card = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))
        if card["layout"] != "yolox":
            raise SystemExit(f"{folder}: layout {card['layout']} is not one that is scored here")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.name = str(card["name"])
        self.input = card["input"]
        self.session = onnxruntime.InferenceSession(
            str(file or folder / card["file"]), options, providers=["CPUExecutionProvider"]
        )
        self.width, self.height = int(self.input["width"]), int(self.input["height"])
        known = {name: i for i, name in enumerate(LABELS)}
        pairs = [(i, known[name]) for i, name in enumerate(card["labels"]) if name in known]
        self.columns = np.array([a for a, _ in pairs], dtype=np.int64)
        self.ours = np.array([b for _, b in pairs], dtype=np.int64)
        cells, strides = [], []
        for stride in (8, 16, 32):
            xs, ys = np.meshgrid(np.arange(self.width // stride), np.arange(self.height // stride))
            cells.append(np.stack([xs, ys], axis=-1).reshape(-1, 2))
            strides.append(np.full((cells[-1].shape[0], 1), stride))
        self.cells = np.concatenate(cells).astype(np.float64)
        self.strides = np.concatenate(strides).astype(np.float64)
        self.run_ms: list[float] = []
        self.whole_ms: list[float] = []

    def find(self, image: Picture, score: float = 0.01, iou: float = 0.65) -> Found:
        """Detections of one BGR picture, best first."""
        began = time.perf_counter()
        scale = min(self.width / image.shape[1], self.height / image.shape[0])
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        canvas = np.full((self.height, self.width, 3), int(self.input["pad"]), np.uint8)
        shrink = cv2.INTER_AREA if scale < 0.6 else cv2.INTER_LINEAR
        canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=shrink)
        if self.input["color"] == "RGB":
            canvas = np.ascontiguousarray(canvas[..., ::-1])
        blob = canvas.astype(np.float32) * np.float32(self.input["scale"])
        blob = (blob - np.float32(self.input["mean"])) / np.float32(self.input["std"])
        blob = np.ascontiguousarray(blob.transpose(2, 0, 1)[None])
        before = time.perf_counter()
        rows = self.session.run(None, {self.input["name"]: blob})[0][0].astype(np.float64)
        self.run_ms.append((time.perf_counter() - before) * 1e3)
        names = rows[:, 5:][:, self.columns]
        scores = names.max(axis=1) * rows[:, 4]
        keep = scores >= score
        rows, scores = rows[keep], scores[keep]
        labels = self.ours[names[keep].argmax(axis=1)]
        centre = (rows[:, :2] + self.cells[keep]) * self.strides[keep]
        half = np.exp(rows[:, 2:4]) * self.strides[keep] / 2.0
        boxes = np.concatenate([centre - half, centre + half], axis=1) / scale
        limit = np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float64)
        boxes = np.clip(boxes, 0.0, limit)
        chosen = suppress(boxes, scores, labels, iou)[:MAX_DETECTIONS]
        self.whole_ms.append((time.perf_counter() - began) * 1e3)
        return Found(boxes[chosen], scores[chosen], labels[chosen])


def overlaps(a: Floats, b: Floats, crowd: NDArray[np.bool_] | None = None) -> Floats:
    """IoU of every a with every b; with a crowd, the share of a that lies inside it."""
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.clip(high - low, 0.0, None), axis=2)
    area_a = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, None]
    area_b = np.prod(b[:, 2:] - b[:, :2], axis=1)[None]
    union = area_a + area_b - both
    if crowd is not None:
        union = np.where(crowd[None], area_a, union)
    shares: Floats = both / np.maximum(union, 1e-9)
    return shares


def suppress(
    boxes: Floats, scores: Floats, labels: NDArray[np.int64], iou: float
) -> NDArray[np.int64]:
    """Non-maximum suppression within each class; indices, best first."""
    order = np.argsort(-scores, kind="stable")[:1000]
    # classes are moved apart, so that boxes of different classes never meet
    moved = boxes[order] + labels[order, None] * 1e5
    shares = overlaps(moved, moved)
    alive = np.ones(len(order), dtype=np.bool_)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= shares[i, i + 1 :] <= iou
    return order[alive]


# --------------------------------------------------------------------------- metric


def match(found: Found, real: Real, label: int) -> tuple[Floats, Floats, NDArray[np.bool_], int]:
    """One picture, one class, as COCO matches: scores, hits and ignored [T, D], and how many."""
    mine = np.flatnonzero(found.labels == label)
    mine = mine[np.argsort(-found.scores[mine], kind="stable")][:MAX_DETECTIONS]
    true = np.flatnonzero(real.labels == label)
    true = true[np.argsort(real.crowd[true], kind="stable")]
    crowd = real.crowd[true]
    shares = overlaps(found.boxes[mine], real.boxes[true], crowd)
    hits = np.zeros((len(IOU_STEPS), len(mine)))
    ignored = np.zeros((len(IOU_STEPS), len(mine)), dtype=np.bool_)
    for t, threshold in enumerate(IOU_STEPS):
        used = np.zeros(len(true), dtype=np.bool_)
        for d in range(len(mine)):
            best, pick = min(float(threshold), 1.0 - 1e-10), -1
            for g in range(len(true)):
                if used[g] and not crowd[g]:
                    continue
                if pick >= 0 and not crowd[pick] and crowd[g]:
                    break
                if shares[d, g] < best:
                    continue
                best, pick = float(shares[d, g]), g
            if pick >= 0:
                used[pick] = True
                ignored[t, d] = crowd[pick]
                hits[t, d] = not crowd[pick]
    return found.scores[mine], hits, ignored, int((~crowd).sum())


def precision_of(pairs: Sequence[tuple[Found, Real]], label: int) -> Floats | None:
    """Average precision at each IoU step; None where the class does not occur."""
    parts = [match(found, real, label) for found, real in pairs]
    total = sum(part[3] for part in parts)
    if not total:
        return None
    scores = np.concatenate([part[0] for part in parts])
    order = np.argsort(-scores, kind="mergesort")
    hits = np.concatenate([part[1] for part in parts], axis=1)[:, order]
    ignored = np.concatenate([part[2] for part in parts], axis=1)[:, order]
    out = np.zeros(len(IOU_STEPS))
    for t in range(len(IOU_STEPS)):
        good = np.cumsum(hits[t])
        bad = np.cumsum((hits[t] == 0) & ~ignored[t])
        recall = good / total
        precision = good / np.maximum(good + bad, np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        where = np.searchsorted(recall, RECALL_STEPS, side="left")
        reached = where < len(precision)
        out[t] = precision[where[reached]].sum() / len(RECALL_STEPS)
    return out


def average_precision(
    pairs: Sequence[tuple[Found, Real]], labels: Sequence[str] = LABELS
) -> dict[str, Any]:
    """AP50 and AP, per class and as the mean over the classes that occur."""
    table: dict[str, dict[str, float]] = {}
    every = []
    for label, name in enumerate(labels):
        steps = precision_of(pairs, label)
        if steps is None:
            continue
        every.append(steps)
        count = sum(int(((r.labels == label) & ~r.crowd).sum()) for _, r in pairs)
        table[name] = {
            "ap50": round(float(steps[0]), 4),
            "ap": round(float(steps.mean()), 4),
            "boxes": count,
        }
    mean = np.mean(every, axis=0) if every else np.zeros(len(IOU_STEPS))
    return {
        "ap50": round(float(mean[0]), 4),
        "ap": round(float(mean.mean()), 6),
        "pictures": len(pairs),
        "classes": table,
    }


def working_point(pairs: Sequence[tuple[Found, Real]], score: float) -> dict[str, Any]:
    """Recall, precision and false finds per picture at one score and IoU 0.5."""
    table: dict[str, Any] = {}
    for label, name in enumerate(LABELS):
        good = found_count = total = 0
        for found, real in pairs:
            scores, hits, ignored, count = match(found.above(score), real, label)
            good += int(hits[0].sum())
            found_count += len(scores) - int(ignored[0].sum())
            total += count
        if total or found_count:
            table[name] = {
                **shares_of(good, found_count, total),
                "boxes": total,
                "false_per_picture": round((found_count - good) / max(1, len(pairs)), 4),
            }
    return table


# --------------------------------------------------------------------------- pictures


def assets_folder() -> Path | None:
    """The folder of real material, or None with a word why parts are left out."""
    folder = Path(os.environ.get("FORECOURT_ASSETS", HERE.parent.parent / "shared" / "assets"))
    if (folder / "eval").is_dir():
        return folder
    print(
        f"no assets at {folder}: set FORECOURT_ASSETS; parts that need them are left out",
        file=sys.stderr,
    )
    return None


def plain_real(boxes: Floats, labels: NDArray[np.int64]) -> Real:
    """Truth without crowds."""
    return Real(boxes, labels, np.zeros(len(boxes), dtype=np.bool_))


def rendered_pictures(count: int) -> Iterator[tuple[Picture, Real]]:
    """Scenes that training never saw."""
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        image, boxes = scenes.random_sample(seed, (640, 360))
        yield image, plain_real(boxes[:, :4], boxes[:, 4].astype(np.int64))


def coco_truth(document: dict[str, Any], names: Sequence[str]) -> dict[int, Real]:
    """COCO annotations by picture, boxes as corners, classes by their names."""
    known = {name: i for i, name in enumerate(names)}
    label_of = {c["id"]: known[c["name"]] for c in document["categories"] if c["name"] in known}
    rows: dict[int, list[tuple[list[float], int, bool]]] = {i["id"]: [] for i in document["images"]}
    for a in document["annotations"]:
        if a["category_id"] in label_of:
            x, y, w, h = a["bbox"]
            rows[a["image_id"]].append(
                ([x, y, x + w, y + h], label_of[a["category_id"]], bool(a.get("iscrowd", 0)))
            )
    return {
        image: Real(
            np.array([r[0] for r in found], dtype=np.float64).reshape(-1, 4),
            np.array([r[1] for r in found], dtype=np.int64),
            np.array([r[2] for r in found], dtype=np.bool_),
        )
        for image, found in rows.items()
    }


def real_pictures(assets: Path) -> Iterator[tuple[Picture, Real]]:
    """The photographs of COCO whose licence lets us keep them beside the project."""
    for part in ("train2017", "val2017"):
        folder = assets / "eval" / "coco_cc_by"
        document = json.loads((folder / f"instances_{part}_subset.json").read_text("utf-8"))
        truth = coco_truth(document, LABELS)
        for entry in document["images"]:
            image = cv2.imread(str(folder / part / entry["file_name"]))
            if image is None:
                raise SystemExit(f"cannot read {entry['file_name']}")
            yield image.astype(np.uint8), truth[entry["id"]]


def frames_of(path: Path, step: int) -> Iterator[tuple[int, Picture]]:
    """Every step-th frame of a recording."""
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i % step == 0:
                yield i, frame.to_ndarray(format="bgr24").astype(np.uint8)


# --------------------------------------------------------------------------- parts


def score_rendered(models: Sequence[Model], count: int) -> dict[str, Any]:
    """(a) Held-out rendered scenes."""
    pictures = list(rendered_pictures(count))
    out: dict[str, Any] = {"seeds": [HELD_OUT_SEED, HELD_OUT_SEED + count - 1]}
    for model in models:
        out[model.name] = average_precision([(model.find(i), r) for i, r in pictures])
    return out


def score_real(models: Sequence[Model], assets: Path) -> dict[str, Any]:
    """(b) Real photographs with true boxes."""
    pictures = list(real_pictures(assets))
    return {
        model.name: average_precision([(model.find(image), real) for image, real in pictures])
        for model in models
    }


def score_agreement(model: Model, teacher: Model, assets: Path) -> dict[str, Any]:
    """(c) Real recordings, for which nobody drew boxes: does it see what the teacher sees?"""
    out: dict[str, Any] = {}
    held_out = np.zeros(3, dtype=np.int64)
    for name in RECORDINGS:
        path = assets / "videos" / name
        if not path.exists():
            print(f"agreement: {name} is missing, left out", file=sys.stderr)
            continue
        good = mine = theirs = frames = 0
        for _, image in frames_of(path, FRAME_STEP):
            taught = teacher.find(image, TEACHER_SCORE)
            found = model.find(image, WORKING_SCORE)
            real = plain_real(taught.boxes, taught.labels)
            frames += 1
            mine += len(found.scores)
            theirs += len(taught.scores)
            for label in range(len(LABELS)):
                good += int(match(found, real, label)[1][0].sum())
        out[name] = {**shares_of(good, mine, theirs), "frames": frames, "teacher_boxes": theirs}
        if name in HELD_OUT:
            held_out += [good, mine, theirs]
        print(f"agreement: {name} {out[name]}", file=sys.stderr)
    good, mine, theirs = (int(n) for n in held_out)
    out["held-out recordings"] = {**shares_of(good, mine, theirs), "teacher_boxes": theirs}
    return out


def shares_of(good: int, mine: int, true: int) -> dict[str, float | None]:
    """Recall and precision from counts; None where there is nothing to divide by."""
    return {
        "recall": round(good / true, 4) if true else None,
        "precision": round(good / mine, 4) if mine else None,
    }


def score_demo(models: Sequence[Model], seed: int) -> dict[str, Any]:
    """(d) The demo clip, encoded and decoded again, against its truth."""
    known = {name: i for i, name in enumerate(LABELS)}
    with tempfile.TemporaryDirectory() as folder:
        clip, truth = Path(folder) / "demo.mp4", Path(folder) / "demo.jsonl"
        scenario = scenes.demo_scenario(1280, 720, seed)
        took = scenes.write_clip(clip, scenario, scenario.period, 12, 2.0, seed, truth)
        rows = [json.loads(line) for line in truth.read_text("utf-8").splitlines()]
        pairs: dict[str, list[tuple[Found, Real]]] = {model.name: [] for model in models}
        for i, image in frames_of(clip, 1):
            objects = rows[i]["objects"]
            real = plain_real(
                np.array([o["box"] for o in objects], dtype=np.float64).reshape(-1, 4),
                np.array([known[o["class"]] for o in objects], dtype=np.int64),
            )
            for model in models:
                pairs[model.name].append((model.find(image), real))
    out: dict[str, Any] = {"seed": seed, "render_s": round(took, 1), "score": WORKING_SCORE}
    for name, found in pairs.items():
        out[name] = {
            "ap50": average_precision(found)["ap50"],
            "at_score": working_point(found, WORKING_SCORE),
        }
    return out


def score_speed(model: Model) -> dict[str, float]:
    """Milliseconds per picture with one thread: the network alone, and with all around it."""
    image, _ = scenes.random_sample(HELD_OUT_SEED, (1280, 720))
    for _ in range(5):
        model.find(image, WORKING_SCORE)
    model.run_ms.clear()
    model.whole_ms.clear()
    for _ in range(60):
        model.find(image, WORKING_SCORE)
    return {
        "network_ms": round(float(np.median(model.run_ms)), 2),
        "picture_ms": round(float(np.median(model.whole_ms)), 2),
    }


def self_check(assets: Path) -> float:
    """Our AP on the reference boxes of pycocotools."""
    folder = assets / "eval" / "coco_metrics_reference"
    document = json.loads((folder / "sampled_gts_bbox_area.json").read_text("utf-8"))
    results = json.loads((folder / "cocoapi_results.json").read_text("utf-8"))
    names = [c["name"] for c in document["categories"]]
    truth = coco_truth(document, names)
    label_of = {c["id"]: i for i, c in enumerate(document["categories"])}
    by_image: dict[int, list[dict[str, Any]]] = {image: [] for image in sorted(truth)}
    for row in results:
        by_image[row["image_id"]].append(row)
    pairs = []
    for image, rows in by_image.items():
        boxes = np.array([r["bbox"] for r in rows], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = Found(
            boxes,
            np.array([r["score"] for r in rows], dtype=np.float64),
            np.array([label_of[r["category_id"]] for r in rows], dtype=np.int64),
        )
        pairs.append((found, truth[image]))
    return float(average_precision(pairs, names)["ap"])


def show(title: str, result: dict[str, Any], say: Callable[[str], None]) -> None:
    """One part as a plain table."""
    say(f"== {title}")
    for name, entry in result.items():
        if not isinstance(entry, dict):
            say(f"   {name}: {entry}")
            continue
        lead = " ".join(f"{k}={v}" for k, v in entry.items() if not isinstance(v, dict))
        say(f"   {name}: {lead}")
        for inner in ("classes", "at_score"):
            for label, row in entry.get(inner, {}).items():
                say(f"      {label:<11}" + " ".join(f"{k}={v}" for k, v in row.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Scores the detectors of this folder.")
    parser.add_argument("command", nargs="?", choices=("run", "self-check"), default="run")
    parser.add_argument("--model", type=Path, default=HERE / "forecourt-nano")
    parser.add_argument(
        "--part", action="append", choices=("rendered", "real", "agreement", "demo", "speed")
    )
    parser.add_argument("--pictures", type=int, default=500, help="rendered ones")
    parser.add_argument("--seed", type=int, default=0, help="of the demo clip")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    asked = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    out_stream = sys.stderr if asked.json else sys.stdout

    def say(text: str) -> None:
        print(text, file=out_stream, flush=True)

    assets = assets_folder()
    if asked.command == "self-check":
        if assets is None:
            return 2
        ours = self_check(assets)
        good = abs(ours - REFERENCE_AP) < 5e-6
        say(f"AP {ours:.6f}, pycocotools {REFERENCE_AP:.6f}: {'equal' if good else 'DIFFERENT'}")
        if asked.json:
            print(json.dumps({"ap": ours, "reference": REFERENCE_AP, "equal": good}))
        return 0 if good else 1
    parts = asked.part or ["rendered", "real", "agreement", "demo", "speed"]
    model = Model(asked.model)
    teacher = None
    if assets is not None and (assets / "models" / "yolox_nano.onnx").exists():
        teacher = Model(HERE / "yolox-nano", assets / "models" / "yolox_nano.onnx")
    both = [model] + ([teacher] if teacher else [])
    result: dict[str, Any] = {}
    if "rendered" in parts:
        result["rendered"] = score_rendered(both, asked.pictures)
        show("held-out rendered scenes", result["rendered"], say)
    if "real" in parts and assets is not None:
        result["real"] = score_real(both, assets)
        show("real pictures (COCO, CC BY)", result["real"], say)
    if "agreement" in parts and assets is not None and teacher is not None:
        result["agreement"] = score_agreement(model, teacher, assets)
        show("real recordings: agreement with YOLOX-nano", result["agreement"], say)
    if "demo" in parts:
        result["demo"] = score_demo(both, asked.seed)
        show("demo clip", result["demo"], say)
    if "speed" in parts:
        result["speed"] = {m.name: score_speed(m) for m in both}
        show("one thread", result["speed"], say)
    if asked.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
