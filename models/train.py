"""Trains the small detector on rendered scenes and exports it as ONNX.

Belongs here: the network, its loss, augmentation, the cache of rendered samples, export. Does not
belong here: how scenes look (scenes.py) and how good a model is (evaluate.py). The only file of
this project that needs torch.
"""

# torch is installed where one trains and nowhere else, so that its types may be missing:
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-unused-ignores, no-warn-return-any

from __future__ import annotations

import argparse
import hashlib
import math
import os
import queue
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx  # type: ignore[import-not-found]
import torch  # type: ignore[import-not-found]
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional  # type: ignore[import-not-found]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run as a script
from models import scenes
from models.solids import LABELS

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 416, 256
STRIDES = (8, 16, 32)
CLASSES = len(LABELS)
PAD = 114
SHARD = 200
RENDER_SIZE = (512, 288)  # a little larger than the network sees, so that zooming in keeps detail
FIRST_HELD_OUT_SEED = 9_000_000  # evaluate.py counts upwards from here; training stays below


# --------------------------------------------------------------------------- samples


def render_shard(folder: str, number: int) -> int:
    """Renders one shard of the cache: JPEG pictures and their boxes."""
    cv2.setNumThreads(1)
    path = Path(folder) / f"shard-{number:05d}.npz"
    if path.exists():
        return number
    coded: list[Picture] = []
    boxes: list[Floats] = []
    for seed in range(number * SHARD, (number + 1) * SHARD):
        if seed >= FIRST_HELD_OUT_SEED:
            raise ValueError("training seeds must stay below the held-out ones")
        image, found = scenes.random_sample(seed, RENDER_SIZE)
        code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 93])[1]
        coded.append(np.asarray(code, dtype=np.uint8).reshape(-1))
        boxes.append(found.astype(np.float32))
    partial = path.with_suffix(".part.npz")
    np.savez(
        partial,
        data=np.concatenate(coded),
        ends=np.cumsum([len(c) for c in coded]),
        boxes=np.concatenate(boxes),
        counts=np.array([len(b) for b in boxes]),
    )
    os.replace(partial, path)  # a reader never sees half a shard
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


def example(samples: Samples, rng: np.random.Generator, mosaic: float) -> tuple[Picture, Floats]:
    """One picture as the network sees it, augmented."""
    canvas = np.full((HEIGHT, WIDTH, 3), PAD, np.uint8)
    count = len(samples.codes)
    fit = min(WIDTH / RENDER_SIZE[0], HEIGHT / RENDER_SIZE[1])
    if rng.random() < mosaic:
        cx, cy = int(rng.uniform(0.3, 0.7) * WIDTH), int(rng.uniform(0.3, 0.7) * HEIGHT)
        parts = []
        for limits in (
            (0, 0, cx, cy),
            (cx, 0, WIDTH, cy),
            (0, cy, cx, HEIGHT),
            (cx, cy, WIDTH, HEIGHT),
        ):
            image, boxes = samples.picture(int(rng.integers(count)))
            scale = fit * rng.uniform(0.45, 1.1)
            slack_x = limits[2] - limits[0] - scale * image.shape[1]
            slack_y = limits[3] - limits[1] - scale * image.shape[0]
            left, top = limits[0] + rng.random() * slack_x, limits[1] + rng.random() * slack_y
            parts.append(place(canvas, image, boxes, scale, left, top, limits))
        kept = np.concatenate(parts)
    else:
        image, boxes = samples.picture(int(rng.integers(count)))
        scale, left, top = fit, 0.0, 0.0
        if rng.random() < 0.6:
            scale = fit * rng.uniform(0.6, 1.6)
            left = rng.random() * (WIDTH - scale * image.shape[1])
            top = rng.random() * (HEIGHT - scale * image.shape[0])
        kept = place(canvas, image, boxes, scale, left, top, (0, 0, WIDTH, HEIGHT))
    if rng.random() < 0.5:
        canvas = np.ascontiguousarray(canvas[:, ::-1])
        kept[:, [0, 2]] = WIDTH - kept[:, [2, 0]]
    return recolour(canvas, rng), kept


def batches(
    samples: Samples, size: int, seed: int, mosaic: list[float]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches made by a thread ahead of time; boxes padded with class -1."""
    ready: queue.Queue[tuple[Tensor, Tensor]] = queue.Queue(4)

    def work() -> None:
        cv2.setNumThreads(1)
        rng = np.random.default_rng(seed)
        while True:
            made = [example(samples, rng, mosaic[0]) for _ in range(size)]
            most = max(1, max(len(b) for _, b in made))
            boxes = np.full((size, most, 5), -1.0, np.float32)
            for row, (_, found) in zip(boxes, made, strict=True):
                row[: len(found)] = found
            images = np.stack([image for image, _ in made]).transpose(0, 3, 1, 2)
            ready.put((torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(boxes)))

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield ready.get()


# --------------------------------------------------------------------------- network


def conv(inward: int, outward: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU: what CPUs run fastest."""
    return nn.Sequential(
        nn.Conv2d(inward, outward, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(outward, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """A narrow 3x3 convolution beside a shortcut."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.path = nn.Sequential(conv(width, inner, 1), conv(inner, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Adds the path to its input."""
        out: Tensor = x + self.path(x)
        return out


class Head(nn.Module):
    """Decoupled head of one level: one branch names, the other measures."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.naming = conv(width, width)
        self.measuring = conv(width, width)
        self.classes = nn.Conv2d(width, CLASSES, 1)
        self.box = nn.Conv2d(width, 4, 1)
        self.objectness = nn.Conv2d(width, 1, 1)
        with torch.no_grad():
            for layer in (self.classes, self.objectness):
                assert layer.bias is not None
                layer.bias.fill_(-math.log(99.0))
            assert self.box.bias is not None
            self.box.bias.copy_(torch.tensor([0.5, 0.5, 1.2, 1.2]))

    def forward(self, x: Tensor) -> Tensor:
        """Rows cx, cy, w, h, objectness, classes; scores as logits."""
        measured = self.measuring(x)
        return torch.cat(
            [self.box(measured), self.objectness(measured), self.classes(self.naming(x))], 1
        )


class Detector(nn.Module):
    """Thin convolutional backbone, two-way neck, anchor-free heads at strides 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, 3, 2), conv(16, 24, 3, 2), Residual(24, 12))
        self.stage8 = nn.Sequential(conv(24, 48, 3, 2), Residual(48, 24), Residual(48, 24))
        self.stage16 = nn.Sequential(
            conv(48, 96, 3, 2), Residual(96, 48), Residual(96, 48), Residual(96, 48)
        )
        self.stage32 = nn.Sequential(conv(96, 128, 3, 2), Residual(128, 64), Residual(128, 64))
        width = 48
        self.low = conv(128, width, 1)
        self.mid = conv(96, width, 1)
        self.high = conv(48, width, 1)
        self.join_mid = conv(width, width)
        self.join_high = conv(width, width)
        self.down_mid = conv(width, width, 3, 2)
        self.down_low = conv(width, width, 3, 2)
        self.heads = nn.ModuleList([Head(width, stride) for stride in STRIDES])

    def forward(self, images: Tensor) -> Tensor:
        """Pictures 0..255 to rows [B, N, 5 + C] with logits."""
        # the letterbox's grey becomes zero, like the padding of the convolutions
        x = self.stem((images - float(PAD)) * (1.0 / 64.0))
        p8 = self.stage8(x)
        p16 = self.stage16(p8)
        p32 = self.low(self.stage32(p16))
        mid = self.join_mid(self.mid(p16) + functional.interpolate(p32, scale_factor=2.0))
        high = self.join_high(self.high(p8) + functional.interpolate(mid, scale_factor=2.0))
        mid = mid + self.down_mid(high)
        low = p32 + self.down_low(mid)
        rows = [head(x) for head, x in zip(self.heads, (high, mid, low), strict=True)]
        return torch.cat([r.flatten(2) for r in rows], 2).transpose(1, 2)


class Exported(nn.Module):
    """The network as others run it: scores already between 0 and 1."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        """The YOLOX raw layout."""
        rows = self.detector(images)
        return torch.cat([rows[..., :4], torch.sigmoid(rows[..., 4:])], 2)


# --------------------------------------------------------------------------- loss


def make_grid() -> tuple[Tensor, Tensor]:
    """Cell corners in cells [N, 2] and strides [N, 1], level by level, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        ys, xs = torch.meshgrid(
            torch.arange(HEIGHT // stride), torch.arange(WIDTH // stride), indexing="ij"
        )
        cells.append(torch.stack([xs, ys], -1).reshape(-1, 2))
        strides.append(torch.full((cells[-1].shape[0], 1), stride))
    return torch.cat(cells).float(), torch.cat(strides).float()


def corners_of(rows: Tensor, grid: Tensor, strides: Tensor) -> Tensor:
    """Raw boxes to x0, y0, x1, y1."""
    centre = (rows[..., :2] + grid) * strides
    half = torch.exp(rows[..., 2:4].clamp(-4.0, 5.0)) * strides * 0.5
    return torch.cat([centre - half, centre + half], -1)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes that broadcast."""
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    both = inter[..., 0] * inter[..., 1]
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    union = area_a + area_b - both + 1e-6
    frame = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = frame[..., 0] * frame[..., 1] + 1e-6
    iou = both / union
    return iou, iou - (hull - union) / hull


@torch.no_grad()
def assign(
    boxes: Tensor, scores: Tensor, truth: Tensor, grid: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor]:
    """SimOTA for a whole batch: which cells are taken, and by which true box."""
    real = truth[..., 4] >= 0
    labels = truth[..., 4].clamp(min=0).long()
    target = truth[..., None, :4]
    points = (grid + 0.5) * strides
    inside = (
        (points[:, 0] > target[..., 0])
        & (points[:, 0] < target[..., 2])
        & (points[:, 1] > target[..., 1])
        & (points[:, 1] < target[..., 3])
    )
    middle = (target[..., :2] + target[..., 2:]) / 2.0
    near = ((points - middle).abs() < 1.5 * strides).all(-1)
    possible = (inside | near) & real[..., None]
    iou = overlap(boxes[:, None], target)[0] * possible
    log_no = torch.log1p(-scores.clamp(max=0.999))
    naming = -log_no.sum(-1)[:, None] + torch.gather(
        (log_no - torch.log(scores.clamp(min=1e-4))).transpose(1, 2),
        1,
        labels[..., None].expand(-1, -1, scores.shape[1]),
    )
    cost = naming - 3.0 * torch.log(iou + 1e-6)
    cost = cost + 1e4 * ~(inside & near) + 1e8 * ~possible
    wanted = torch.topk(iou, 10, dim=2).values.sum(2).int().clamp(min=1)
    best, where = torch.topk(cost, 10, dim=2, largest=False)
    take = (torch.arange(10) < wanted[..., None]) & (best < 1e7)
    matched = torch.zeros_like(cost, dtype=torch.bool).scatter_(2, where, take)
    owner = torch.where(matched, cost, torch.full_like(cost, 1e9)).argmin(1)
    return matched.any(1), owner


def loss_of(rows: Tensor, truth: Tensor, grid: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of a batch, and its parts for the log: box, objectness, class, cells per box."""
    rows = rows.float()
    boxes = corners_of(rows, grid, strides)
    scores = torch.sqrt(torch.sigmoid(rows[..., 5:]) * torch.sigmoid(rows[..., 4:5]))
    taken, owner = assign(boxes.detach(), scores.detach(), truth, grid, strides)
    count = taken.sum().clamp(min=1).float()
    objectness = functional.binary_cross_entropy_with_logits(
        rows[..., 4], taken.float(), reduction="sum"
    )
    which = torch.nonzero(taken)
    mine = truth[which[:, 0], owner[taken]]
    iou, wide_iou = overlap(boxes[taken], mine[:, :4])
    naming = functional.one_hot(mine[:, 4].clamp(min=0).long(), CLASSES).float()
    naming = naming * iou.detach().clamp(min=0.0)[:, None]
    classes = functional.binary_cross_entropy_with_logits(
        rows[..., 5:][taken], naming, reduction="sum"
    )
    measure = (1.0 - wide_iou).sum()
    total = (5.0 * measure + objectness + classes) / count
    parts = torch.stack([measure, objectness, classes]).detach() / count
    per_box = count / (truth[..., 4] >= 0).sum().clamp(min=1)
    return total, torch.cat([parts, per_box[None]])


# --------------------------------------------------------------------------- training


def fix_shape(path: Path) -> None:
    """Declares the rows and columns of the output, which the exporter leaves open."""
    graph = onnx.load(str(path))
    dims = graph.graph.output[0].type.tensor_type.shape.dim
    rows = sum((WIDTH // s) * (HEIGHT // s) for s in STRIDES)
    for dim, size in zip(dims[1:], (rows, 5 + CLASSES), strict=True):
        dim.ClearField("dim_param")
        dim.dim_value = size
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def export(detector: Detector, folder: Path) -> None:
    """Writes model.onnx and, where there is a model.toml, its hash and size."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    torch.onnx.export(
        Exported(deepcopy(detector).eval()),
        (torch.zeros(1, 3, HEIGHT, WIDTH),),
        str(path),
        input_names=["images"],
        output_names=["output"],
        dynamic_axes={"images": {0: "batch"}, "output": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    fix_shape(path)
    data = path.read_bytes()
    facts = {
        "sha256": f'"{hashlib.sha256(data).hexdigest()}"',
        "size_bytes": str(len(data)),
    }
    card = folder / "model.toml"
    if card.exists():
        text = card.read_text(encoding="utf-8")
        for key, value in facts.items():
            text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
        card.write_text(text, encoding="utf-8")
    print(f"export: {path} {facts}", file=sys.stderr)


def save(path: Path, **state: Any) -> None:
    """Replaces the checkpoint in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def fit(asked: argparse.Namespace) -> Detector:
    """Trains until the time or the steps are used up; gives the averaged network."""
    torch.manual_seed(asked.seed)
    torch.set_num_threads(asked.threads)
    samples = Samples(asked.cache, asked.shards)
    samples.refresh()
    if not samples.codes:
        raise SystemExit(f"no samples in {asked.cache}: run with --render first")
    detector = Detector().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = deepcopy(detector).eval()
    heavy = [p for p in detector.parameters() if p.ndim > 1]
    light = [p for p in detector.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": heavy, "weight_decay": 0.02}, {"params": light, "weight_decay": 0.0}],
        lr=asked.rate,
    )
    step, before = 0, 0.0
    if asked.resume and asked.checkpoint.exists():
        state = torch.load(asked.checkpoint, weights_only=True)
        detector.load_state_dict(state["detector"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        step, before = int(state["step"]), float(state["seconds"])
    grid, strides = make_grid()
    mosaic = [0.5]
    source = batches(samples, asked.batch, asked.seed + step, mosaic)
    began = time.monotonic()
    saved, told, sums = began, began, torch.zeros(4)
    parameters = sum(p.numel() for p in detector.parameters())
    print(f"train: {parameters} parameters, {len(samples.codes)} samples", file=sys.stderr)
    detector.train()
    while True:
        now = time.monotonic()
        seconds = before + now - began
        done = max(
            seconds / (asked.minutes * 60.0) if asked.minutes else 0.0,
            step / asked.steps if asked.steps else 0.0,
        )
        if done >= 1.0:
            break
        mosaic[0] = 0.5 if done < 0.75 else 0.0
        rate = (
            asked.rate
            * min(1.0, (step + 1) / 150)
            * (0.02 + 0.49 * (1.0 + math.cos(math.pi * done)))
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, truth = next(source)
        images = images.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=asked.bfloat16):
            rows = detector(images)
        loss, parts = loss_of(rows, truth, grid, strides)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(detector.parameters(), 20.0)
        optimiser.step()
        step += 1
        keep = min(0.998, (1 + step) / (20 + step))
        with torch.no_grad():
            for mean, value in zip(
                averaged.state_dict().values(), detector.state_dict().values(), strict=True
            ):
                if mean.is_floating_point():
                    mean.lerp_(value, 1.0 - keep)
                else:
                    mean.copy_(value)
        sums = sums * 0.98 + parts * 0.02 if step > 1 else parts
        if now - told > 15.0:
            told = now
            samples.refresh()
            shown = " ".join(f"{float(v):.3f}" for v in sums)
            print(
                f"train: {seconds:.0f} s step {step} rate {rate:.5f} box/obj/cls/cells {shown} "
                f"({len(samples.codes)} samples)",
                file=sys.stderr,
                flush=True,
            )
        if now - saved > 60.0:
            saved = now
            save(
                asked.checkpoint,
                detector=detector.state_dict(),
                averaged=averaged.state_dict(),
                optimiser=optimiser.state_dict(),
                step=step,
                seconds=seconds,
            )
    save(
        asked.checkpoint,
        detector=detector.state_dict(),
        averaged=averaged.state_dict(),
        optimiser=optimiser.state_dict(),
        step=step,
        seconds=seconds,
    )
    print(f"train: done, {step} steps in {seconds / 60:.1f} min", file=sys.stderr)
    return averaged


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    here = Path(__file__).resolve().parent
    work = Path(tempfile.gettempdir()) / "forecourt-training"
    parser = argparse.ArgumentParser(
        description="Trains the small detector on rendered scenes and exports it as ONNX."
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=work / "samples",
        help="folder of rendered samples",
    )
    parser.add_argument("--shards", type=int, default=60, help=f"of {SHARD} samples each")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--render", action="store_true", help="only render the samples")
    parser.add_argument("--export", action="store_true", help="only export the checkpoint")
    parser.add_argument("--minutes", type=float, default=0.0, help="time budget of training")
    parser.add_argument("--steps", type=int, default=0, help="step budget of training")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="where the CPU has it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=work / "forecourt-nano.pt")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--out", type=Path, default=here / "forecourt-nano")
    asked = parser.parse_args(arguments)
    if asked.export:
        detector = Detector()
        detector.load_state_dict(torch.load(asked.checkpoint, weights_only=True)["averaged"])
        export(detector, asked.out)
        return 0
    if asked.render:
        render_cache(asked.cache, asked.shards, asked.workers)
        return 0
    if not asked.minutes and not asked.steps:
        parser.error("say --minutes or --steps")
    export(fit(asked), asked.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
