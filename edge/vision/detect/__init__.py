"""Detections out of pictures: one ONNX network, whatever its output looks like.

The door of this package: what others use of it. Inside: `detector` (a network at work) over
`layouts` (which layout is it) over `grids`, `distributions`, `faces`, `queries`, `rows` (how each
is read), `graph` (ONNX Runtime), `pixels` (what it is shown) and `suppression`.
"""

from edge.vision.detect.detections import (
    SCORE_FLOOR,
    Detections,
    Image,
    Picture,
    Size,
)
from edge.vision.detect.detector import Detector
from edge.vision.detect.graph import PROVIDERS
from edge.vision.detect.layouts import LAYOUTS
from edge.vision.detect.pixels import KNOWN, Pixels, fitted

__all__ = [
    "KNOWN",
    "LAYOUTS",
    "PROVIDERS",
    "SCORE_FLOOR",
    "Detections",
    "Detector",
    "Image",
    "Picture",
    "Pixels",
    "Size",
    "fitted",
]
