"""Small ONNX graphs whose outputs are known, for tests of what reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

_OPSET = 17
_IR = 10

Shape = Sequence[int | str]


def constant(
    path: Path,
    outputs: Mapping[str, npt.NDArray[Any]],
    *,
    shape: Shape = (1, 3, 64, 64),
    dtype: npt.DTypeLike = np.float32,
    name: str = "images",
    batched: bool = False,
    more: Mapping[str, tuple[npt.DTypeLike, Shape]] | None = None,
    metadata: Mapping[str, str] | None = None,
    declared: Mapping[str, Shape] | None = None,
) -> Path:
    """A graph that gives these arrays, whatever it is shown.

    `batched` ones give them once for each picture: the first axis of each output is 1. `more` are
    further inputs, and `declared` what the graph says of its outputs' shapes.
    """
    nodes = [
        helper.make_node("Constant", [], [f"{key}/once"], value=numpy_helper.from_array(value))
        for key, value in outputs.items()
    ]
    if batched:
        one = numpy_helper.from_array(np.array([1], np.int64))
        nodes += [
            helper.make_node("Shape", [name], ["count"], start=0, end=1),
            helper.make_node("Constant", [], ["one"], value=one),
        ]
    for key, value in outputs.items():
        if not batched:
            nodes.append(helper.make_node("Identity", [f"{key}/once"], [key]))
            continue
        ones = ["one"] * (value.ndim - 1)
        nodes += [
            helper.make_node("Concat", ["count", *ones], [f"{key}/times"], axis=0),
            helper.make_node("Tile", [f"{key}/once", f"{key}/times"], [key]),
        ]
    says = declared or {}
    given = [
        helper.make_tensor_value_info(
            key,
            helper.np_dtype_to_tensor_dtype(value.dtype),
            says.get(key, ["any", *value.shape[1:]] if batched else list(value.shape)),
        )
        for key, value in outputs.items()
    ]
    return _written(path, nodes, {name: (dtype, shape), **(more or {})}, given, metadata)


def echo(
    path: Path,
    *,
    shape: Shape = (1, 3, 64, 64),
    dtype: npt.DTypeLike = np.float32,
    divide: float = 1,
) -> Path:
    """A graph that finds one object, and tells by its box what pixels it was shown.

    [1, 300, 6] rows; x1, y1 and x2 of the first are the means of the three channels as they come,
    divided, plus 10, 20 and 30.
    """
    made: dict[str, npt.NDArray[Any]] = {
        "divisor": np.array([divide], np.float32),
        "moved": np.array([10, 20, 30], np.float32),
        "tail": np.array([60, 0.9, 1], np.float32),
        "rest": np.zeros((299, 6), np.float32),
        "form": np.array([1, 6], np.int64),
        "final": np.array([1, 300, 6], np.int64),
    }
    axes = [0, 1, 2] if shape[-1] == 3 else [0, 2, 3]
    nodes = [
        *_constants(made),
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=axes, keepdims=0),
        helper.make_node("Div", ["means", "divisor"], ["divided"]),
        helper.make_node("Add", ["divided", "moved"], ["shown"]),
        helper.make_node("Concat", ["shown", "tail"], ["flat"], axis=0),
        helper.make_node("Reshape", ["flat", "form"], ["row"]),
        helper.make_node("Concat", ["row", "rest"], ["all"], axis=0),
        helper.make_node("Reshape", ["all", "final"], ["output0"]),
    ]
    given = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 300, 6])]
    return _written(path, nodes, {"images": (dtype, shape)}, given, None)


def only_at(path: Path, side: int) -> Path:
    """A graph that declares any size, and runs with pictures of one size only."""
    made: dict[str, npt.NDArray[Any]] = {
        "all": np.ones((1, 3, side, side), np.float32),
        "zero": np.array(0, np.float32),
        "rows": np.zeros((1, 300, 6), np.float32),
    }
    nodes = [
        *_constants(made),
        helper.make_node("Mul", ["images", "all"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["output0"]),
    ]
    given = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["n", "rows", 6])]
    inputs: dict[str, tuple[npt.DTypeLike, Shape]] = {"images": (np.float32, ("n", 3, "h", "w"))}
    return _written(path, nodes, inputs, given, None)


def other_pixels(source: Path, path: Path) -> Path:
    """A network for plain bytes (BGR) as one for RGB with ImageNet's mean and deviation.

    Names and shapes are the same, as of YOLOX's first and later releases.
    """
    model = onnx.load(str(source))
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["plain" if each == name else each for each in node.input]
    made: dict[str, npt.NDArray[Any]] = {
        "deviation": np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1) * 255,
        "mean": np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1) * 255,
        "turned": np.array([2, 1, 0], np.int64),
    }
    before = [
        *_constants(made),
        helper.make_node("Mul", [name, "deviation"], ["spread"]),
        helper.make_node("Add", ["spread", "mean"], ["red-first"]),
        helper.make_node("Gather", ["red-first", "turned"], ["plain"], axis=1),
    ]
    after = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*before, *after])
    onnx.save(model, str(path))
    return path


def quantised(source: Path, path: Path, pictures: Sequence[npt.NDArray[np.float32]] = ()) -> Path:
    """A network in eight bits: with pictures (its inputs) for its ranges statically (QDQ)."""
    if not pictures:
        quantize_dynamic(source, path, weight_type=QuantType.QUInt8)
        return path
    name = onnx.load(str(source), load_external_data=False).graph.input[0].name
    quantize_static(source, path, _Shown(name, pictures), activation_type=QuantType.QUInt8)
    return path


class _Shown(CalibrationDataReader):  # type: ignore[misc]
    """Pictures, one by one, as ONNX Runtime wants to be given them."""

    def __init__(self, name: str, pictures: Sequence[npt.NDArray[np.float32]]) -> None:
        self._left = [{name: picture} for picture in pictures]

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return self._left.pop() if self._left else None


def _constants(made: Mapping[str, npt.NDArray[Any]]) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Constant", [], [key], value=numpy_helper.from_array(value))
        for key, value in made.items()
    ]


def _written(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[npt.DTypeLike, Shape]],
    outputs: Sequence[onnx.ValueInfoProto],
    metadata: Mapping[str, str] | None,
) -> Path:
    taken = [
        helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
        for key, (kind, shape) in inputs.items()
    ]
    model = helper.make_model(
        helper.make_graph(list(nodes), "small", taken, list(outputs)),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
    )
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path
