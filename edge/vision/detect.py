"""Detections out of pictures: one ONNX network.

Here: pixels in, the decoding of output layouts, class-wise suppression. Not here: which model
(manifest.py), which pictures and what score counts (analysis.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

from edge.vision.manifest import Manifest, ModelError
from wire.manifest import MAX_MODEL_BYTES

SCORE_FLOOR = 0.1
"""Weaker detections are dropped. The tracker makes use of those between here and `min_score`."""
SAME_OBJECT_IOU = 0.45
MAX_CANDIDATES = 1000
MAX_DETECTIONS = 300
MAX_BATCH = 8
"""Pictures in one call of a network that takes any number."""

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Size = tuple[int, int]
"""Width, height."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What a network sees in one picture, best first. One row for each object."""

    boxes: Floats
    """N × 4: x1, y1, x2, y2 as fractions of the picture, within 0..1."""
    scores: Floats
    """N: 0..1."""
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


class Picture(Protocol):
    """What `Detector.detect_frame` needs of a frame: see edge.video.decode.Frame."""

    @property
    def size(self) -> Size: ...

    def image(
        self,
        width: int,
        height: int,
        *,
        resize: Literal["letterbox", "stretch"],
        pad: int,
        color: Literal["BGR", "RGB"],
    ) -> Image: ...


class Raw(NamedTuple):
    """Candidates of one picture before suppression, in pixels of the network's input."""

    boxes: Floats
    """N × 4: x1, y1, x2, y2."""
    scores: Floats
    classes: npt.NDArray[np.int32]


def decode_yolox(outputs: Sequence[Floats], index: int, size: Size, labels: int) -> Raw:
    """YOLOX's raw head: one output, [pictures, cells, 5 + labels], strides 8, 16 and 32.

    Centre = (offset + cell) * stride, extent = exp(value) * stride; objectness and class scores
    are already between 0 and 1.
    """
    cells, strides = _yolox_grid(size)
    expected = (len(cells), 5 + labels)
    if outputs[0].ndim != 3 or outputs[0].shape[1:] != expected:
        raise ModelError(
            f"its output has the shape {list(outputs[0].shape)}, but the layout yolox with "
            f"{labels} labels at {size[0]}x{size[1]} gives [1, {expected[0]}, {expected[1]}]; "
            "correct layout, labels or input size in its model.toml"
        )
    head = outputs[0][index]
    # A class's score is at most 1, so a cell below the floor here stays below it.
    chosen = np.flatnonzero(head[:, 4] >= SCORE_FLOOR)
    rows = head[chosen]
    classes = rows[:, 5:].argmax(axis=1)
    scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + classes]
    centre = (rows[:, :2] + cells[chosen]) * strides[chosen]
    half = np.exp(rows[:, 2:4]) * strides[chosen] * np.float32(0.5)
    boxes = np.concatenate((centre - half, centre + half), axis=1)
    return Raw(boxes, scores, classes.astype(np.int32))


@lru_cache(maxsize=16)
def _yolox_grid(size: Size) -> tuple[Floats, Floats]:
    """The cell (x, y) and the stride of each row of the head."""
    cells, strides = [], []
    for stride in (8, 16, 32):
        columns, rows = size[0] // stride, size[1] // stride
        grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
        cells.append(grid.reshape(-1, 2))
        strides.append(np.full((columns * rows, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


Decode = Callable[[Sequence[Floats], int, Size, int], Raw]
LAYOUTS: Mapping[str, Decode] = {"yolox": decode_yolox}
"""How to read a network's output: (outputs, which picture, input size, number of labels)."""


class Detector:
    """A loaded network. Raises ModelError if it is none, or is not what its manifest says.

    `threads` bounds the cores that one call uses. Not for use by two threads at once.
    """

    def __init__(self, manifest: Manifest, *, threads: int = 1) -> None:
        self.manifest = manifest
        decode = LAYOUTS.get(manifest.layout)
        if decode is None:
            known = ", ".join(LAYOUTS)
            raise self._error(f"its layout {manifest.layout!r} is unknown; known: {known}")
        self._decode = decode
        self._session = self._open(threads)
        inputs = self._session.get_inputs()
        names = [each.name for each in inputs]
        wanted = manifest.input.name or names[0]
        if wanted not in names:
            raise self._error(f"it has no input {wanted!r}, only {', '.join(names)}")
        self._input_name = wanted
        shape: list[Any] = inputs[names.index(wanted)].shape
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            raise self._error(
                f"its input {wanted!r} has the shape {shape}, not [N, 3, height, width]"
            )
        self._batch = shape[0] if isinstance(shape[0], int) else MAX_BATCH
        self._size = self._input_size(shape)
        self._blob = np.empty((0, 3, self._size[1], self._size[0]), np.float32)
        self._try()

    @property
    def input_size(self) -> Size:
        """Width and height of the pictures that it wants."""
        return self._size

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it knows."""
        return self.manifest.labels

    def detect_frame(self, picture: Picture) -> Detections:
        """What is in one decoded picture. It is converted once for all who want it alike."""
        wants = self.manifest.input
        image = picture.image(*self._size, resize=wants.resize, pad=wants.pad, color=wants.color)
        return self.detect([image], [picture.size])[0]

    def detect(self, images: Sequence[Image], shapes: Sequence[Size]) -> list[Detections]:
        """What is in each picture.

        `images` are of the input size, as the manifest's `color`, `resize` and `pad` say;
        `shapes` are the sizes (width, height) that they had before.
        """
        found: list[Detections] = []
        for first in range(0, len(images), self._batch):
            some = images[first : first + self._batch]
            outputs = self._run(some)
            found += [
                self._detections(outputs, index, shape)
                for index, shape in enumerate(shapes[first : first + len(some)])
            ]
        return found

    def _run(self, images: Sequence[Image]) -> list[Floats]:
        if len(self._blob) != len(images):
            self._blob = np.empty((len(images), *self._blob.shape[1:]), np.float32)
        wants = self.manifest.input
        for blob, image in zip(self._blob, images, strict=True):
            for channel, plane in enumerate(cv2.split(image)):
                blob[channel] = plane
                if wants.scale != 1:
                    blob[channel] *= wants.scale
                if wants.mean[channel] or wants.std[channel] != 1:
                    blob[channel] -= wants.mean[channel]
                    blob[channel] /= wants.std[channel]
        outputs: list[Floats] = self._session.run(None, {self._input_name: self._blob})
        return outputs

    def _detections(self, outputs: Sequence[Floats], index: int, shape: Size) -> Detections:
        raw = _best(self._decode(outputs, index, self._size, len(self.labels)))
        boxes = raw.boxes / self._extent(shape)
        return Detections(
            boxes.clip(0, 1).astype(np.float32),
            raw.scores.astype(np.float32),
            tuple(self.labels[number] for number in raw.classes),
        )

    def _extent(self, shape: Size) -> Floats:
        """How far the picture reaches within the input: x, y, x, y in pixels."""
        width, height = self._size
        if self.manifest.input.resize == "letterbox":
            ratio = min(width / shape[0], height / shape[1])
            return np.array((shape[0] * ratio, shape[1] * ratio) * 2, np.float32)
        return np.array((width, height) * 2, np.float32)

    def _open(self, threads: int) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Waiting threads would burn the cores that the decoders need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = self.manifest.path
        try:
            if path.stat().st_size > MAX_MODEL_BYTES:
                raise self._error(f"{path} is larger than {MAX_MODEL_BYTES} bytes")
            return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise self._error(f"{path} cannot be read: {error.strerror}") from None
        except Exception as error:  # ONNX Runtime's errors have no common class
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise self._error(f"{path} is no ONNX network that can be loaded: {said}") from None

    def _input_size(self, shape: Sequence[Any]) -> Size:
        wants = self.manifest.input
        size = []
        for what, given, declared in (
            ("width", wants.width, shape[3]),
            ("height", wants.height, shape[2]),
        ):
            if given is not None and isinstance(declared, int) and given != declared:
                raise self._error(f"its graph wants {what} {declared}, its model.toml says {given}")
            if given is None and not isinstance(declared, int):
                raise self._error(
                    f"its graph leaves the {what} open; say input.{what} in model.toml"
                )
            size.append(given if given is not None else int(declared))
        return size[0], size[1]

    def _try(self) -> None:
        """Look at a grey picture once: declared shapes cannot be trusted."""
        grey = np.full((self._size[1], self._size[0], 3), 114, np.uint8)
        try:
            self.detect([grey], [self._size])
        except ModelError as error:
            raise self._error(str(error)) from None
        except Exception as error:  # as above
            raise self._error(f"it fails on a grey picture: {str(error).splitlines()[0]}") from None

    def _error(self, text: str) -> ModelError:
        return ModelError(f"model {self.manifest.name}: {text}")


def _best(raw: Raw) -> Raw:
    """One box for each object of a class: the best, without those that overlap it too much."""
    keep = np.flatnonzero(raw.scores >= SCORE_FLOOR)
    if not len(keep):
        return Raw(raw.boxes[keep], raw.scores[keep], raw.classes[keep])
    keep = keep[np.argsort(-raw.scores[keep], kind="stable")[:MAX_CANDIDATES]]
    boxes, scores, classes = raw.boxes[keep], raw.scores[keep], raw.classes[keep]
    xywh = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        xywh,  # type: ignore[arg-type]  # OpenCV takes arrays for its sequences
        scores,  # type: ignore[arg-type]
        classes,  # type: ignore[arg-type]
        SCORE_FLOOR,
        SAME_OBJECT_IOU,
    )
    chosen = np.sort(np.asarray(kept, np.intp).reshape(-1))[:MAX_DETECTIONS]
    return Raw(boxes[chosen], scores[chosen], classes[chosen])
