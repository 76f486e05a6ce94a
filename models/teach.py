"""Boxes for recordings that nobody labelled: what two detectors agree on.

Belongs here: choosing frames, running the two teachers at two scales, keeping what both are sure of
and marking what only one of them says. Does not belong here: the pictures that models are scored on
(eval/ of the assets is never read here), and training (train.py).

    python models/teach.py --out FOLDER      frames of the recordings below, with boxes

A box that only one teacher gives, or both with little certainty, is kept with the label UNSURE:
training neither rewards nor punishes what the network says there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import onnxruntime  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run as a script
from models import evaluate, samples
from models.evaluate import Floats, Found, Model, Picture
from models.solids import LABELS

# Held out are the recordings of evaluate.HELD_OUT: no frame of theirs may stand here. Nor does
# car-detection.mp4, seen from straight above: the teachers are blind there and would teach so.
RECORDINGS = (
    "traffic_camera.mp4",
    "Traffic2.mp4",
    "Retail02_short.mp4",
    "person-bicycle-car-detection.mp4",
    "walking.mp4",
    "worker-zone-detection.gif",
    "test2-cam-person1.mkv",
    "video02.avi",
    "cars_768x768.h264",
    "house6.mp4",
    "awkward/MOV00006.3gp",
    "awkward/issue53_brightness_change.avi",
)
SURE, AGREED, HEARD = 0.5, 0.3, 0.2  # the better score, the other one, and what is worth a mark
SAME = 0.55  # IoU from which two teachers mean one object
WIDEST = 768
COCO = {0: 0, 1: 1, 2: 2, 3: 3, 5: 4, 7: 5}  # COCO's place of a label to its place in LABELS


class Deim:
    """DEIMv2 as exported by its authors: labels, boxes and scores, suppression inside the graph."""

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )

    def find(self, image: Picture, score: float) -> Found:
        """Detections of one BGR picture, in its pixels."""
        blob = cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA)[..., ::-1]
        blob = np.ascontiguousarray((blob.astype(np.float32) / 255.0).transpose(2, 0, 1)[None])
        size = np.array([[image.shape[1], image.shape[0]]], dtype=np.int64)
        labels, boxes, scores = self.session.run(
            ["labels", "boxes", "scores"], {"images": blob, "orig_target_sizes": size}
        )
        keep = (scores[0] >= score) & np.isin(labels[0], list(COCO))
        named = np.array([COCO[int(label)] for label in labels[0][keep]], dtype=np.int64)
        return Found(boxes[0][keep].astype(np.float64), scores[0][keep].astype(np.float64), named)


def views(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """The whole picture, then four overlapping parts of a large one (x0, y0, x1, y1)."""
    yield 0, 0, width, height
    if width < 640:
        return
    w, h = round(width * 0.6), round(height * 0.6)
    for x, y in ((0, 0), (width - w, 0), (0, height - h), (width - w, height - h)):
        yield x, y, x + w, y + h


def look(teacher: Model | Deim, image: Picture) -> Found:
    """What one teacher finds in all views; objects cut by the edge of a part are left to others."""
    height, width = image.shape[:2]
    boxes, scores, labels = [np.zeros((0, 4))], [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for x0, y0, x1, y1 in views(width, height):
        found = teacher.find(np.ascontiguousarray(image[y0:y1, x0:x1]), HEARD)
        moved = found.boxes + np.array([x0, y0, x0, y0])
        cut = np.zeros(len(moved), dtype=np.bool_)
        for column, edge, end in ((0, x0, 0), (1, y0, 0), (2, x1, width), (3, y1, height)):
            if edge != end:
                cut |= np.abs(moved[:, column] - edge) < 4.0
        boxes.append(moved[~cut])
        scores.append(found.scores[~cut])
        labels.append(found.labels[~cut])
    every = Found(np.concatenate(boxes), np.concatenate(scores), np.concatenate(labels))
    kept = evaluate.suppress(every.boxes, every.scores, every.labels, 0.6)
    return Found(every.boxes[kept], every.scores[kept], every.labels[kept])


def agree(first: Found, second: Found) -> Floats:
    """Rows x0, y0, x1, y1, label: what both mean by the same name, then the rest as UNSURE."""
    shares = evaluate.overlaps(first.boxes, second.boxes)
    same = first.labels[:, None] == second.labels[None]
    low = np.minimum(first.scores[:, None], second.scores[None])
    high = np.maximum(first.scores[:, None], second.scores[None])
    shares = np.where(same & (low >= AGREED) & (high >= SURE), shares, 0.0)
    rows: list[list[float]] = []
    while shares.size and shares.max() >= SAME:
        i, j = (int(n) for n in np.unravel_index(int(shares.argmax()), shares.shape))
        a, b = first.scores[i], second.scores[j]
        box = (first.boxes[i] * a + second.boxes[j] * b) / (a + b)
        rows.append([*box, float(first.labels[i])])
        shares[i, :] = 0.0
        shares[:, j] = 0.0
    known = np.array(rows, dtype=np.float64).reshape(-1, 5)
    heard = np.concatenate([first.boxes, second.boxes])
    if len(known):
        heard = heard[evaluate.overlaps(heard, known[:, :4]).max(axis=1) < SAME]
    doubt = np.full((len(heard), 1), float(samples.UNSURE))
    return np.concatenate([known, np.concatenate([heard, doubt], axis=1)])


def spread(path: Path, most: int) -> Iterator[Picture]:
    """At most so many frames, evenly over the recording.

    Packets are counted first: headers of raw and odd files do not say how many frames there are.
    """
    with av.open(str(path)) as container:
        count = sum(1 for packet in container.demux(video=0) if packet.size)
    wanted = {int(n) for n in np.linspace(0, max(0, count - 1), min(most, count))}
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i in wanted:
                yield frame.to_ndarray(format="bgr24").astype(np.uint8)


def teach(assets: Path, out: Path, most: int) -> None:
    """Writes one shard for each recording; those that are there are left as they are."""
    teachers: tuple[Model, Deim] = (
        Model(evaluate.HERE / "yolox-nano", assets / "models" / "yolox_nano.onnx"),
        Deim(assets / "models" / "deimv2_atto_coco.onnx"),
    )
    out.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(RECORDINGS):
        path = out / samples.shard_name(number)
        if path.exists():
            continue
        began = time.monotonic()
        pictures: list[tuple[Picture, NDArray[np.float32]]] = []
        for image in spread(assets / "videos" / name, most):
            scale = min(1.0, WIDEST / image.shape[1])
            rows = agree(*(look(teacher, image) for teacher in teachers))
            rows[:, :4] *= scale
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            pictures.append((small.astype(np.uint8), rows.astype(np.float32)))
        samples.write_shard(path, pictures, 90)
        labels = np.concatenate([rows[:, 4] for _, rows in pictures])
        counts = {label: int((labels == i).sum()) for i, label in enumerate(LABELS)}
        print(
            f"teach: {name} {len(pictures)} frames {counts} unsure "
            f"{int((labels == samples.UNSURE).sum())}, {time.monotonic() - began:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Labels real recordings with two teachers.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--frames", type=int, default=80, help="at most, of one recording")
    asked = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    assets = evaluate.assets_folder()
    if assets is None:
        return 2
    teach(assets, asked.out, asked.frames)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
