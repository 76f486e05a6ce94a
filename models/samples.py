"""Training pictures: caches of rendered and of real ones, and their augmentation.

Belongs here: reading and writing shards of pictures with boxes, mosaic, zoom, pasting, colours.
Does not belong here: how scenes look (scenes.py), where labels of real pictures come from
(teach.py), the network and its loss (network.py, train.py). torch is not needed.

A box is a row x0, y0, x1, y1, label in pixels; the label counts in LABELS or is UNSURE.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models import scenes
from models.solids import LABELS

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 416, 256
PAD = 114
UNSURE = -2  # something may be here: neither right nor wrong (-1 fills up batches)
SHARD = 200
RENDER_SIZE = (512, 288)  # a little larger than the network sees, so that zooming in keeps detail
FIRST_HELD_OUT_SEED = 9_000_000  # evaluate.py counts upwards from here; training stays below


# --------------------------------------------------------------------------- samples


def shard_name(number: int) -> str:
    """File name of one shard."""
    return f"shard-{number:05d}.npz"


def write_shard(path: Path, pictures: Sequence[tuple[Picture, Floats]], quality: int) -> None:
    """Writes pictures as JPEG, with their boxes."""
    coded = []
    for image, _ in pictures:
        code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        coded.append(np.asarray(code, dtype=np.uint8).reshape(-1))
    partial = path.with_suffix(".part.npz")
    np.savez(
        partial,
        data=np.concatenate(coded),
        ends=np.cumsum([len(c) for c in coded]),
        boxes=np.concatenate([boxes for _, boxes in pictures]),
        counts=np.array([len(boxes) for _, boxes in pictures]),
    )
    os.replace(partial, path)  # a reader never sees half a shard


def render_shard(folder: str, number: int) -> int:
    """Renders one shard of the cache: JPEG pictures and their boxes."""
    cv2.setNumThreads(1)
    path = Path(folder) / shard_name(number)
    if path.exists():
        return number
    pictures: list[tuple[Picture, Floats]] = []
    for seed in range(number * SHARD, (number + 1) * SHARD):
        if seed >= FIRST_HELD_OUT_SEED:
            raise ValueError("training seeds must stay below the held-out ones")
        image, found = scenes.random_sample(seed, RENDER_SIZE)
        pictures.append((image.astype(np.uint8), found.astype(np.float32)))
    write_shard(path, pictures, 93)
    return number


def render_cache(folder: Path, shards: int, workers: int, first: int = 0) -> None:
    """Renders what is missing of the first shards."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(render_shard, str(folder), first + n) for n in range(shards)]
        for done, job in enumerate(jobs, 1):
            job.result()
            print(
                f"render: {done}/{shards} shards, {time.monotonic() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )


class Samples:
    """The cache in memory, pictures still coded."""

    def __init__(self, folder: Path, shards: int) -> None:
        self.codes: list[Picture] = []
        self.boxes: list[Floats] = []
        self.folder = folder
        self.shards = shards
        self.known: set[Path] = set()

    def refresh(self) -> None:
        """Takes in shards that were finished since the last look."""
        for path in sorted(self.folder.glob("shard-?????.npz"))[: self.shards]:
            if path in self.known:
                continue
            self.known.add(path)
            with np.load(path) as shard:
                data, ends, boxes, counts = (shard[k] for k in ("data", "ends", "boxes", "counts"))
            self.codes += np.split(data, ends[:-1])
            self.boxes += np.split(boxes, np.cumsum(counts)[:-1])

    def picture(self, index: int) -> tuple[Picture, Floats]:
        """One picture and its boxes."""
        image = cv2.imdecode(self.codes[index], cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"sample {index} of the cache cannot be read")
        return image.astype(np.uint8), self.boxes[index].copy()


# --------------------------------------------------------------------------- augmentation


def keep_boxes(boxes: Floats, area: Floats, limits: tuple[int, int, int, int]) -> Floats:
    """Cuts boxes at the limits (x0, y0, x1, y1) and drops what hardly shows any more."""
    x0, y0, x1, y1 = limits
    boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(x0, x1)
    boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(y0, y1)
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    kept: Floats = boxes[(w * h > 0.3 * area) & (np.maximum(w, h) >= 6) & (np.minimum(w, h) >= 2.5)]
    return kept


def place(
    canvas: Picture,
    image: Picture,
    boxes: Floats,
    scale: float,
    left: float,
    top: float,
    limits: tuple[int, int, int, int],
) -> Floats:
    """Lays a scaled picture onto the canvas inside the limits; gives its boxes there."""
    x0, y0, x1, y1 = limits
    matrix = np.array([[scale, 0.0, left], [0.0, scale, top]], dtype=np.float32)
    region = canvas[y0:y1, x0:x1]
    shift = matrix - np.array([[0.0, 0.0, x0], [0.0, 0.0, y0]], dtype=np.float32)
    if scale < 0.7:
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(
            np.uint8
        )
        shift = shift * np.array([[2.0, 2.0, 1.0]], dtype=np.float32)
    region[:] = cv2.warpAffine(
        image, shift, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderValue=(PAD, PAD, PAD)
    )
    boxes[:, :4] *= scale
    boxes[:, 0:4:2] += left
    boxes[:, 1:4:2] += top
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return keep_boxes(boxes, area, limits)


def recolour(image: Picture, rng: np.random.Generator) -> Picture:
    """Other light, other sensor, other colours."""
    values = image.astype(np.float32)
    if rng.random() < 0.15:
        values = values[..., rng.permutation(3)]
    if rng.random() < 0.18:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.6:
        values = values * rng.uniform(0.7, 1.35, 3 if rng.random() < 0.4 else 1).astype(np.float32)
        values += np.float32(rng.uniform(-25, 25))
    if rng.random() < 0.3:
        grain = rng.standard_normal((image.shape[0], image.shape[1], 1)).astype(np.float32)
        values += np.float32(rng.uniform(2, 12)) * grain
    out: Picture = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.4)).astype(np.uint8)
    if rng.random() < 0.1:
        step = rng.uniform(0.4, 0.8)
        small = cv2.resize(out, None, fx=step, fy=step, interpolation=cv2.INTER_AREA)
        out = cv2.resize(small, (out.shape[1], out.shape[0])).astype(np.uint8)
    if rng.random() < 0.15:
        for _ in range(int(rng.integers(1, 5))):
            x, y = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
            w, h = (int(n) for n in rng.integers(4, 28, 2))
            out[y : y + h, x : x + w] = rng.integers(0, 255, 3, dtype=np.uint8)
    return out


def fit_of(image: Picture) -> float:
    """The scale at which the whole picture just fits."""
    return min(WIDTH / int(image.shape[1]), HEIGHT / int(image.shape[0]))


class Mix:
    """Where pictures come from: rendered scenes, and real frames for a share of them."""

    def __init__(self, rendered: Samples, real: Samples | None, share: float) -> None:
        self.rendered = rendered
        self.real = real if real is not None and real.codes else None
        self.share = share
        self.cuts: list[list[tuple[int, int]]] = [[] for _ in LABELS]
        if self.real is not None:
            for index, boxes in enumerate(self.real.boxes):
                for row, box in enumerate(boxes):
                    if box[4] >= 0 and min(box[2] - box[0], box[3] - box[1]) >= 16:
                        self.cuts[int(box[4])].append((index, row))

    def draw(self, rng: np.random.Generator) -> tuple[Picture, Floats]:
        """One picture by chance."""
        if self.real is not None and rng.random() < self.share:
            return self.real.picture(int(rng.integers(len(self.real.codes))))
        return self.rendered.picture(int(rng.integers(len(self.rendered.codes))))

    def cut(self, rng: np.random.Generator) -> tuple[Picture, int, float] | None:
        """A real object with a narrow border, its label, and the scale its picture would have.

        Each label is as likely as any other, so that rare ones are seen often.
        """
        labels = [label for label, cuts in enumerate(self.cuts) if cuts]
        if self.real is None or not labels:
            return None
        label = labels[int(rng.integers(len(labels)))]
        index, row = self.cuts[label][int(rng.integers(len(self.cuts[label])))]
        image, boxes = self.real.picture(index)
        x0, y0, x1, y1 = (round(float(n)) for n in boxes[row, :4])
        part = image[max(0, y0) : y1, max(0, x0) : x1]
        return np.ascontiguousarray(part), label, fit_of(image)


def paste(canvas: Picture, boxes: Floats, mix: Mix, rng: np.random.Generator) -> Floats:
    """Lays up to three real objects where nothing else is, with soft edges; gives all boxes."""
    for _ in range(int(rng.integers(1, 4))):
        found = mix.cut(rng)
        if found is None:
            return boxes
        part, label, scale = found
        scale *= rng.uniform(0.7, 1.8)
        w, h = round(part.shape[1] * scale), round(part.shape[0] * scale)
        if not (6 <= w < WIDTH * 0.7 and 8 <= h < HEIGHT * 0.8):
            continue
        left, top = int(rng.integers(WIDTH - w)), int(rng.integers(HEIGHT - h))
        low = np.maximum(boxes[:, :2], [left, top])
        high = np.minimum(boxes[:, 2:4], [left + w, top + h])
        if (np.prod(np.clip(high - low, 0.0, None), axis=1) > 0.05 * w * h).any():
            continue
        part = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA).astype(np.uint8)
        edge = np.minimum(1.0, np.minimum(np.arange(w) + 0.5, np.arange(w)[::-1] + 0.5) / 3.0)
        side = np.minimum(1.0, np.minimum(np.arange(h) + 0.5, np.arange(h)[::-1] + 0.5) / 3.0)
        alpha = (side[:, None] * edge[None])[..., None].astype(np.float32)
        under = canvas[top : top + h, left : left + w].astype(np.float32)
        mixed = under + alpha * (part.astype(np.float32) - under)
        canvas[top : top + h, left : left + w] = mixed.astype(np.uint8)
        row = np.array([[left, top, left + w, top + h, label]], dtype=np.float32)
        boxes = np.concatenate([boxes, row])
    return boxes


def example(mix: Mix, rng: np.random.Generator, mosaic: float) -> tuple[Picture, Floats]:
    """One picture as the network sees it, augmented."""
    canvas = np.full((HEIGHT, WIDTH, 3), PAD, np.uint8)
    if rng.random() < mosaic:
        cx, cy = int(rng.uniform(0.3, 0.7) * WIDTH), int(rng.uniform(0.3, 0.7) * HEIGHT)
        parts = []
        for limits in (
            (0, 0, cx, cy),
            (cx, 0, WIDTH, cy),
            (0, cy, cx, HEIGHT),
            (cx, cy, WIDTH, HEIGHT),
        ):
            image, boxes = mix.draw(rng)
            scale = fit_of(image) * rng.uniform(0.45, 1.1)
            slack_x = limits[2] - limits[0] - scale * image.shape[1]
            slack_y = limits[3] - limits[1] - scale * image.shape[0]
            left, top = limits[0] + rng.random() * slack_x, limits[1] + rng.random() * slack_y
            parts.append(place(canvas, image, boxes, scale, left, top, limits))
        kept = np.concatenate(parts)
    else:
        image, boxes = mix.draw(rng)
        scale, left, top = fit_of(image), 0.0, 0.0
        if rng.random() < 0.6:
            scale *= rng.uniform(0.6, 1.6)
            left = rng.random() * (WIDTH - scale * image.shape[1])
            top = rng.random() * (HEIGHT - scale * image.shape[0])
        kept = place(canvas, image, boxes, scale, left, top, (0, 0, WIDTH, HEIGHT))
    if mix.real is not None and rng.random() < 0.4:
        kept = paste(canvas, kept, mix, rng)
    if rng.random() < 0.5:
        canvas = np.ascontiguousarray(canvas[:, ::-1])
        kept[:, [0, 2]] = WIDTH - kept[:, [2, 0]]
    return recolour(canvas, rng), kept
