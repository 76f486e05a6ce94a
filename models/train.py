"""Trains the small detector on rendered scenes, and on real frames beside them.

Belongs here: the loss, the loop, the command line. Does not belong here: pictures and their
augmentation (samples.py), labels of real frames (teach.py), the network and its export
(network.py), how scenes look (scenes.py) and how good a model is (evaluate.py).
"""

# torch is installed where one trains and nowhere else, so that its types may be missing:
# mypy: allow-untyped-decorators, no-warn-unused-ignores, no-warn-return-any

from __future__ import annotations

import argparse
import math
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.nn import functional  # type: ignore[import-not-found]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also when run as a script
from models.network import CLASSES, Detector, export, make_grid, start_from
from models.samples import SHARD, UNSURE, Mix, Samples, example, render_cache

# --------------------------------------------------------------------------- batches


def batches(mix: Mix, size: int, seed: int, mosaic: list[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches made by a thread ahead of time; boxes padded with class -1."""
    ready: queue.Queue[tuple[Tensor, Tensor]] = queue.Queue(4)

    def work() -> None:
        cv2.setNumThreads(1)
        rng = np.random.default_rng(seed)
        while True:
            made = [example(mix, rng, mosaic[0]) for _ in range(size)]
            most = max(1, max(len(b) for _, b in made))
            boxes = np.full((size, most, 5), -1.0, np.float32)
            for row, (_, found) in zip(boxes, made, strict=True):
                row[: len(found)] = found
            images = np.stack([image for image, _ in made]).transpose(0, 3, 1, 2)
            ready.put((torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(boxes)))

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield ready.get()


# --------------------------------------------------------------------------- loss


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


def doubtful(truth: Tensor, grid: Tensor, strides: Tensor) -> Tensor:
    """Cells [B, N] whose middle lies in a box of which the teachers are not sure."""
    points = (grid + 0.5) * strides
    boxes = truth[..., None, :4]
    inside = ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(-1)
    return (inside & (truth[..., 4:5] == UNSURE)).any(1)


def loss_of(rows: Tensor, truth: Tensor, grid: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of a batch, and its parts for the log: box, objectness, class, cells per box."""
    rows = rows.float()
    boxes = corners_of(rows, grid, strides)
    scores = torch.sqrt(torch.sigmoid(rows[..., 5:]) * torch.sigmoid(rows[..., 4:5]))
    taken, owner = assign(boxes.detach(), scores.detach(), truth, grid, strides)
    count = taken.sum().clamp(min=1).float()
    judged = taken | ~doubtful(truth, grid, strides)
    objectness = functional.binary_cross_entropy_with_logits(
        rows[..., 4][judged], taken.float()[judged], reduction="sum"
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


def save(path: Path, **state: Any) -> None:
    """Replaces the checkpoint in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def real_samples(asked: argparse.Namespace) -> Samples | None:
    """The real frames, where some are asked for."""
    if asked.real is None:
        return None
    real = Samples(asked.real, 1000)
    real.refresh()
    if not real.codes:
        raise SystemExit(f"no frames in {asked.real}: run teach.py --out {asked.real} first")
    return real


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
    mix = Mix(samples, real_samples(asked), asked.share)
    mosaic = [0.5]
    source = batches(mix, asked.batch, asked.seed + step, mosaic)
    if asked.start is not None and not step:
        start_from(detector, asked.start, torch.cat([next(source)[0] for _ in range(6)]).float())
        averaged.load_state_dict(detector.state_dict())
    grid, strides = make_grid()
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
    parser.add_argument("--real", type=Path, help="folder that teach.py wrote")
    parser.add_argument("--share", type=float, default=0.6, help="of real frames, 0..1")
    parser.add_argument("--start", type=Path, help="model.onnx whose weights are gone on from")
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
