"""One box for each object. Not here: where candidates come from (the layouts)."""

import cv2
import numpy as np

from edge.vision.detect.detections import Raw

SAME_OBJECT_IOU = 0.45
MAX_CANDIDATES = 1000
MAX_DETECTIONS = 300


def best(raw: Raw, floor: float, *, overlaps: bool = True) -> Raw:
    """One box for each object of a class: the best, without those that overlap it too much.

    Where a network gives each object once (`overlaps` false), only the number is bounded. Values
    that are no numbers are left out.
    """
    keep = np.flatnonzero((raw.scores >= floor) & np.isfinite(raw.boxes).all(axis=1))
    keep = keep[np.argsort(-raw.scores[keep], kind="stable")[:MAX_CANDIDATES]]
    boxes, scores, classes = raw.boxes[keep], raw.scores[keep], raw.classes[keep]
    if not overlaps or len(keep) < 2:
        return Raw(boxes[:MAX_DETECTIONS], scores[:MAX_DETECTIONS], classes[:MAX_DETECTIONS])
    xywh = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        xywh,  # type: ignore[arg-type]  # OpenCV takes arrays for its sequences
        scores,  # type: ignore[arg-type]
        classes,  # type: ignore[arg-type]
        floor,
        SAME_OBJECT_IOU,
    )
    chosen = np.sort(np.asarray(kept, np.intp).reshape(-1))[:MAX_DETECTIONS]
    return Raw(boxes[chosen], scores[chosen], classes[chosen])
