"""The network of forecourt-nano, its way into ONNX, and back out of it.

Belongs here: layers, export, starting from the weights of an exported file. Does not belong here:
loss and training (train.py). Needs torch and onnx.
"""

# torch is installed where one trains and nowhere else, so that its types may be missing:
# mypy: allow-subclassing-any, allow-untyped-decorators, no-warn-unused-ignores, no-warn-return-any

from __future__ import annotations

import hashlib
import math
import re
import sys
from copy import deepcopy
from pathlib import Path

import onnx  # type: ignore[import-not-found]
import torch  # type: ignore[import-not-found]
from onnx import numpy_helper  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.nn import functional  # type: ignore[import-not-found]

from models.samples import HEIGHT, PAD, WIDTH
from models.solids import LABELS

STRIDES = (8, 16, 32)
CLASSES = len(LABELS)


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


# --------------------------------------------------------------------------- export


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


# --------------------------------------------------------------------------- and back


def start_from(detector: Detector, file: Path, images: Tensor) -> None:
    """Fills the network with the weights of an exported file, so that training can go on from it.

    Export folds each batch norm into its convolution. Here the norms come back with the mean and
    the spread that the convolutions have on these pictures [B, 3, HEIGHT, WIDTH] 0..255: what the
    network says stays the same, and the norms keep their sense while training. ValueError where
    the file holds another network.
    """
    graph = onnx.load(str(file)).graph
    weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    folded = [
        [weights[n] for n in node.input[1:3]] for node in graph.node if node.op_type == "Conv"
    ]
    order: list[nn.Conv2d] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, _: order.append(layer))
        for layer in detector.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    detector.eval()
    with torch.no_grad():
        detector(images[:1])
    for hook in hooks:
        hook.remove()
    shapes = [tuple(layer.weight.shape) for layer in order]
    if shapes != [tuple(weight.shape) for weight, _ in folded]:
        raise ValueError(
            f"{file} holds another network: its convolutions are not those of train.py"
        )
    norms = {
        id(block[0]): block[1]
        for block in detector.modules()
        if isinstance(block, nn.Sequential) and len(block) == 3 and isinstance(block[0], nn.Conv2d)
    }
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def measure(layer: nn.Module, _: object, out: Tensor) -> None:
        seen[id(layer)] = out.mean((0, 2, 3)), out.var((0, 2, 3))

    with torch.no_grad():
        for layer, (weight, bias) in zip(order, folded, strict=True):
            layer.weight.copy_(weight)
            norm = norms.get(id(layer))
            if norm is None:
                assert layer.bias is not None
                layer.bias.copy_(bias)
                continue
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0 - norm.eps)
            norm.weight.fill_(1.0)
            norm.bias.copy_(bias)
            hooks.append(layer.register_forward_hook(measure))
        detector(images)
        for layer in order:
            norm = norms.get(id(layer))
            if norm is not None:
                mean, spread = seen[id(layer)]
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(spread)
                norm.weight.copy_(torch.sqrt(spread + norm.eps))
                norm.bias.add_(mean)
    for hook in hooks:
        hook.remove()
