"""An ONNX graph, opened: what it says of itself, and the call that runs it.

Here: ONNX Runtime, execution providers, names, shapes and metadata. Not here: what outputs
mean.
"""

import ast
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

from edge.vision.manifest import ModelError
from wire.manifest import MAX_MODEL_BYTES

log = logging.getLogger("forecourt.detect")

PROVIDERS: Mapping[str, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Words of the worker's `inference` and ONNX Runtime's names for them."""

MAX_LABELS = 10_000
_MAX_METADATA = 1_000_000
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as declared; what is declared cannot be trusted."""

    name: str
    shape: tuple[int | None, ...]
    """None: any size."""
    dtype: npt.DTypeLike | None
    """None: a type that nothing here can give."""
    type: str


class Graph:
    """A loaded network. Raises ModelError if it is none."""

    def __init__(self, path: Path, *, threads: int, inference: Sequence[str]) -> None:
        self._session = _opened(path, threads, inference)
        names = {long: short for short, long in PROVIDERS.items()}
        taken = self._session.get_providers()
        self.provider: str = names.get(taken[0], taken[0])
        """What runs it, the first that does."""
        log.info("%s is run by %s", path.name, self.provider)
        self.inputs = tuple(map(_tensor, self._session.get_inputs()))
        self.outputs = tuple(map(_tensor, self._session.get_outputs()))
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """All outputs, in their order. Raises whatever ONNX Runtime does."""
        outputs: list[npt.NDArray[Any]] = self._session.run(None, feeds)
        return outputs

    def labels(self) -> tuple[str, ...]:
        """The classes that its metadata names, as Ultralytics writes them; empty if none."""
        for key in ("names", "labels", "classes", "class_names"):
            if found := _labels(self.metadata.get(key, "")[:_MAX_METADATA]):
                return found
        return ()


def first_line(error: Exception) -> str:
    """What an error says, briefly: ONNX Runtime's have many lines."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _opened(path: Path, threads: int, inference: Sequence[str]) -> ort.InferenceSession:
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ModelError(f"{path} is larger than {MAX_MODEL_BYTES} bytes")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    wanted = _available(inference)
    while True:
        try:
            return ort.InferenceSession(
                path,
                _options(threads),
                providers=_with_options(wanted, threads),
                enable_fallback=0,  # it would print to stdout
            )
        except Exception as error:  # ONNX Runtime's errors have no common class
            if wanted[0] == "cpu":
                said = first_line(error)
                raise ModelError(f"{path} is no ONNX network that can be loaded: {said}") from None
            log.warning("%s: %s cannot run it: %s", path.name, wanted[0], first_line(error))
            wanted = wanted[1:]


def _available(inference: Sequence[str]) -> list[str]:
    """Those of the wanted providers that are installed, up to the CPU, which always is."""
    inference = inference[: inference.index("cpu")] if "cpu" in inference else inference
    there = set(ort.get_available_providers())
    lacking = [name for name in inference if PROVIDERS.get(name) not in there]
    if lacking:
        log.warning("not installed here, so not used for inference: %s", ", ".join(lacking))
    return [*(name for name in inference if name not in lacking), "cpu"]


def _with_options(names: Sequence[str], threads: int) -> list[tuple[str, dict[str, str]]]:
    of_their_own = {
        "xnnpack": {"intra_op_num_threads": str(threads)},
        "openvino": {"num_of_threads": str(threads)},
    }
    return [(PROVIDERS[name], of_their_own.get(name, {})) for name in names]


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised as well
    # Waiting threads would burn the cores that the decoders need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _tensor(given: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in given.shape)
    return Tensor(given.name, shape, _TYPES.get(given.type), given.type)


def _labels(text: str) -> tuple[str, ...]:
    """`{0: 'person', 1: 'car'}`, `["person", "car"]` or `person,car`; empty if it is neither."""
    value: object = None
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        value = ast.literal_eval(text)  # JSON's lists and objects of words are Python's too
    if isinstance(value, dict):
        numbers = {int(key) if str(key).isdecimal() else -1: word for key, word in value.items()}
        value = [numbers.get(number) for number in range(len(numbers))]
    if value is None and text and "{" not in text and "[" not in text:
        value = [word.strip() for word in text.replace("\n", ",").split(",")]
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_LABELS:
        return ()
    fine = all(isinstance(word, str) and 0 < len(word) <= 200 for word in value)
    return tuple(value) if fine else ()
