"""What networks of each layout give for one known object, for tests: a 64×64 input, three labels.

The object is at `BOX`, is a `car`, and its score is `SCORE`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

LABELS = ("person", "car", "truck")
SIDE = 64
BOX = (16.0, 8.0, 48.0, 40.0)
SCORE = 0.9
CELLS = 84
"""Of 64×64 pixels at strides 8, 16 and 32."""
MIDDLE = (32.0, 24.0, 32.0, 32.0)
"""The box as centre and extent."""


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def yolox() -> Arrays:
    """Row 1, column 2 of stride 16: its corner is at (32, 16)."""
    head = np.zeros((1, CELLS, 8), np.float32)
    head[0, 64 + 4 + 2] = [0.0, 0.5, np.log(2), np.log(2), SCORE, 0.1, 1.0, 0.2]
    return {"output": head}


def _rows(count: int, columns: int) -> npt.NDArray[np.float32]:
    """A grid's rows whose centres lie all over the picture, without an object."""
    rows = np.zeros((1, count, columns), np.float32)
    rows[0, :, 0] = np.linspace(2, SIDE - 2, count)
    rows[0, :, 1] = np.linspace(2, SIDE - 2, count)
    rows[0, :, 2:4] = 8
    return rows


def yolov5() -> Arrays:
    head = _rows(3 * CELLS, 8)
    head[0, 7] = [*MIDDLE, 0.9, 0.1, 1.0, 0.2]
    return {"output0": head}


def yolov5_raw_scores() -> Arrays:
    """As some exports give it: no sigmoid over objectness and classes."""
    head = _rows(3 * CELLS, 8)
    head[0, :, 4:] = -8
    head[0, 7] = [*MIDDLE, 9.0, -4, logit(SCORE), -4]
    return {"output": head}


def yolov5_with_maps() -> Arrays:
    """Older exports give the raw maps beside the decoded rows."""
    maps = {f"map{side}": np.zeros((1, 3, side, side, 8), np.float32) for side in (8, 4, 2)}
    return {**yolov5(), **maps}


def yolov6() -> Arrays:
    """One decoded row for each cell, and an objectness of 1."""
    head = _rows(CELLS, 8)
    head[0, :, 4] = 1
    head[0, 7] = [*MIDDLE, 1.0, 0.1, SCORE, 0.2]
    return {"outputs": head}


def yolov5_face() -> Arrays:
    """Four landmarks, as plates have."""
    head = _rows(3 * CELLS, 5 + 8 + 3)
    head[0, 7] = [*MIDDLE, 0.9, *[20.0] * 8, 0.1, 1.0, 0.2]
    return {"output": head}


def yolov8() -> Arrays:
    head = _rows(CELLS, 7)
    head[0, 7] = [*MIDDLE, 0.1, SCORE, 0.2]
    return {"output0": head.transpose(0, 2, 1).copy()}


def yolov8_turned() -> Arrays:
    return {"output0": yolov8()["output0"].transpose(0, 2, 1).copy()}


def yolov8_fractions() -> Arrays:
    head = yolov8()["output0"].copy()
    head[:, :4] /= SIDE
    return {"output0": head}


def rtdetr_rows() -> Arrays:
    """Ultralytics' RT-DETR: queries instead of cells, everything between 0 and 1."""
    head = np.full((1, 300, 7), 0.01, np.float32)
    head[0, 5] = [*(np.array(MIDDLE) / SIDE), 0.1, SCORE, 0.2]
    return {"output0": head}


def yolov8_masks() -> Arrays:
    head = np.concatenate((yolov8()["output0"], np.full((1, 32, CELLS), 3, np.float32)), axis=1)
    return {"output0": head, "output1": np.zeros((1, 32, 16, 16), np.float32)}


def _sides(*distances: float, bins: int = 8) -> npt.NDArray[np.float32]:
    """Distributions whose means are these distances: all weight on two neighbouring bins."""
    sides = np.full((4, bins), -50, np.float32)
    for side, distance in enumerate(distances):
        low = int(distance)
        share = distance - low
        sides[side, low] = np.log(max(1 - share, 1e-12))
        if share:
            sides[side, low + 1] = np.log(share)
    return sides.reshape(-1)


def nanodet() -> Arrays:
    """Cell (1, 1) of stride 16: its middle is at (24, 24)."""
    head = np.zeros((1, CELLS, 3 + 32), np.float32)
    head[0, 64 + 4 + 1] = [0.1, SCORE, 0.2, *_sides(0.5, 1, 1.5, 1)]
    return {"output": head}


def nanodet_plus() -> Arrays:
    """One more stride, and distances from the cell's corner: here (16, 16)."""
    head = np.zeros((1, CELLS + 1, 3 + 32), np.float32)
    head[0, 64 + 4 + 1] = [0.1, SCORE, 0.2, *_sides(0, 0.5, 2, 1.5)]
    return {"output": head}


def picodet() -> Arrays:
    """Eight maps: classes, then distances, of strides 8 to 64."""
    classes = {f"class{n}": np.zeros((1, n, 3), np.float32) for n in (64, 16, 4, 1)}
    sides = {f"side{n}": np.zeros((1, n, 32), np.float32) for n in (64, 16, 4, 1)}
    classes["class16"][0, 4 + 1] = [0.1, SCORE, 0.2]
    sides["side16"][0, 4 + 1] = _sides(0.5, 1, 1.5, 1)
    return {**classes, **sides}


def yolov8_maps() -> Arrays:
    """As boards want it: for each stride distances over 16 bins and raw class scores."""
    made: dict[str, npt.NDArray[np.float32]] = {}
    for side in (8, 4, 2):
        made[f"box{side}"] = np.zeros((1, 64, side, side), np.float32)
        made[f"cls{side}"] = np.full((1, 3, side, side), -9, np.float32)
    made["box4"][0, :, 1, 1] = _sides(0.5, 1, 1.5, 1, bins=16)
    made["cls4"][0, 1, 1, 1] = logit(SCORE)
    return made


def _queries(columns: int, quiet: float) -> Arrays:
    boxes = np.full((1, 20, 4), 0.4, np.float32)
    boxes[0, 3] = np.array(MIDDLE) / SIDE
    return {"pred_logits": np.full((1, 20, columns), quiet, np.float32), "pred_boxes": boxes}


def detr_sigmoid() -> Arrays:
    made = _queries(3, -9)
    made["pred_logits"][0, 3, 1] = logit(SCORE)
    return made


def detr_softmax() -> Arrays:
    """The last column is of no object."""
    made = _queries(4, -9)
    made["pred_logits"][0, :, 3] = 9
    made["pred_logits"][0, 3] = np.log([0.03, SCORE, 0.03, 0.04])
    return made


def ssd() -> Arrays:
    scores = np.zeros((1, 50, 4), np.float32)
    scores[0, :, 0] = 1
    scores[0, 3] = [0.05, 0.03, SCORE, 0.02]
    boxes = np.tile(np.array([0.1, 0.1, 0.2, 0.2], np.float32), (1, 50, 1))
    boxes[0, 3] = np.array(BOX) / SIDE
    return {"scores": scores, "boxes": boxes}


def scored_boxes() -> Arrays:
    """YOLO-NAS, and YOLOv4 of others: decoded boxes, a probability for each class."""
    scores = np.zeros((1, 50, 3), np.float32)
    scores[0, 3] = [0.1, SCORE, 0.2]
    boxes = np.tile(np.array([1, 1, 9, 9], np.float32), (1, 50, 1))
    boxes[0, 3] = BOX
    return {"boxes": boxes, "confs": scores}


def rows_of_six() -> Arrays:
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = [*BOX, SCORE, 1]
    return {"output0": rows}


def rows_of_seven() -> Arrays:
    return {"output": np.array([[0, *BOX, 1, SCORE]], np.float32)}


def rows_named() -> Arrays:
    """The name of the output tells its columns."""
    return {"batchno_classid_score_x1y1x2y2": np.array([[0, 1, SCORE, *BOX]], np.float32)}


def rows_of_paddle() -> Arrays:
    return {
        "multiclass_nms3_0.tmp_0": np.array([[1, SCORE, *BOX]], np.float32),
        "multiclass_nms3_0.tmp_2": np.array([1], np.int32),
    }


def rows_of_openvino() -> Arrays:
    rows = np.zeros((1, 1, 100, 7), np.float32)
    rows[0, 0, 0] = [0, 1, SCORE, *(np.array(BOX) / SIDE)]
    return {"detection_out": rows}


def labels_boxes_scores() -> Arrays:
    """DEIM and RT-DETR with what follows them inside."""
    return {
        "labels": np.array([[1, 0, 0]], np.int64),
        "boxes": np.array([[BOX, (1, 1, 2, 2), (1, 1, 2, 2)]], np.float32),
        "scores": np.array([[SCORE, 0.01, 0.01]], np.float32),
    }


def labels_boxes_scores_without_batch() -> Arrays:
    return {name: value[0] for name, value in labels_boxes_scores().items()}


def efficient_nms() -> Arrays:
    made = labels_boxes_scores()
    scores = made["scores"].copy()
    scores[0, 1] = 0.8  # left over from an earlier picture
    return {
        "num_dets": np.array([[1]], np.int32),
        "det_boxes": made["boxes"],
        "det_scores": scores,
        "det_classes": made["labels"].astype(np.int32),
    }


def tensorflow() -> Arrays:
    """Boxes are y, x, y, x in fractions, and classes count from 1."""
    made = labels_boxes_scores()
    return {
        "detection_anchor_indices": np.zeros((1, 3), np.float32),
        "detection_boxes": made["boxes"][:, :, [1, 0, 3, 2]] / np.float32(SIDE),
        "detection_classes": np.array([[2, 1, 1]], np.float32),
        "detection_scores": made["scores"],
        "num_detections": np.array([3], np.float32),
        "raw_detection_boxes": np.zeros((1, 40, 4), np.float32),
        "raw_detection_scores": np.zeros((1, 40, 4), np.float32),
    }


def mmdeploy() -> Arrays:
    return {
        "dets": np.array([[[*BOX, SCORE], [1, 1, 2, 2, 0.01]]], np.float32),
        "labels": np.array([[1, 0]], np.int64),
    }


def yunet() -> Arrays:
    """For each stride a class, an objectness, a box, five landmarks; cell (2, 1) of stride 16."""
    made: dict[str, npt.NDArray[np.float32]] = {}
    for kind, columns in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            rows = (SIDE // stride) ** 2
            made[f"{kind}_{stride}"] = np.full((1, rows, columns), 0.01, np.float32)
    made["cls_16"][0, 4 + 2] = made["obj_16"][0, 4 + 2] = SCORE
    made["bbox_16"][0, 4 + 2] = [0, 0.5, np.log(2), np.log(2)]
    return made


def scrfd(anchors: int = 2) -> Arrays:
    """Without an axis of pictures, and two rows for each cell; distances from the cell's corner."""
    made: dict[str, npt.NDArray[np.float32]] = {}
    for at, columns in enumerate((1, 4, 10)):
        for number, stride in enumerate((8, 16, 32)):
            rows = anchors * (SIDE // stride) ** 2
            made[str(440 + 3 * at + number)] = np.full((rows, columns), 0.01, np.float32)
    row = anchors * (4 + 2) + anchors - 1
    made["441"][row] = SCORE
    made["444"][row] = [1, 0.5, 1, 1.5]
    return made


FACES: Mapping[str, tuple[str, Callable[[], Arrays]]] = {
    "yunet": ("yunet", yunet),
    "scrfd": ("scrfd", scrfd),
    "scrfd-one-anchor": ("scrfd", lambda: scrfd(1)),
}
"""Heads with one class, a face."""

HEADS: Mapping[str, tuple[str, Callable[[], Arrays]]] = {
    "yolox": ("yolox", yolox),
    "yolov5": ("yolov5", yolov5),
    "yolov5-raw-scores": ("yolov5", yolov5_raw_scores),
    "yolov5-with-maps": ("yolov5", yolov5_with_maps),
    "yolov6": ("yolov5", yolov6),
    "yolov5-face": ("yolov5-face", yolov5_face),
    "yolov8": ("yolov8", yolov8),
    "yolov8-turned": ("yolov8", yolov8_turned),
    "yolov8-fractions": ("yolov8", yolov8_fractions),
    "yolov8-masks": ("yolov8", yolov8_masks),
    "rtdetr-rows": ("yolov8", rtdetr_rows),
    "nanodet": ("nanodet", nanodet),
    "nanodet-plus": ("nanodet", nanodet_plus),
    "picodet": ("picodet", picodet),
    "yolov8-maps": ("picodet", yolov8_maps),
    "detr-sigmoid": ("detr", detr_sigmoid),
    "detr-softmax": ("detr", detr_softmax),
    "ssd": ("ssd", ssd),
    "scored-boxes": ("scored-boxes", scored_boxes),
    "rows-six": ("rows", rows_of_six),
    "rows-seven": ("rows", rows_of_seven),
    "rows-named": ("rows", rows_named),
    "rows-paddle": ("rows", rows_of_paddle),
    "rows-openvino": ("rows", rows_of_openvino),
    "labels-boxes-scores": ("labelled-boxes", labels_boxes_scores),
    "no-batch-axis": ("labelled-boxes", labels_boxes_scores_without_batch),
    "efficient-nms": ("labelled-boxes", efficient_nms),
    "tensorflow": ("labelled-boxes", tensorflow),
    "mmdeploy": ("labelled-boxes", mmdeploy),
}
"""By what it is: the layout's word, and its outputs."""
