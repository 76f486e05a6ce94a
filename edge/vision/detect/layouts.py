"""Which layout a graph has: recognised by what it gives for a grey picture, and by model.toml.

Here: the list of layouts, the choice, and the refusals with their reasons. Not here: how each is
read (grids, distributions, faces, queries, rows).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from edge.vision.detect import distributions, faces, grids, queries, rows
from edge.vision.detect.queries import COCO_HEADS
from edge.vision.detect.reading import Reading, Seen
from edge.vision.manifest import ModelError

AUTO = "auto"

LAYOUTS: Mapping[str, Callable[[Seen], Iterator[Reading]]] = {
    "yolox": grids.yolox,
    "yolov5": grids.yolov5,
    "yolov5-face": grids.yolov5_face,
    "yolov8": grids.yolov8,
    "nanodet": distributions.nanodet,
    "picodet": distributions.picodet,
    "yunet": faces.yunet,
    "scrfd": faces.scrfd,
    "detr": queries.detr,
    "ssd": queries.ssd,
    "scored-boxes": queries.scored_boxes,
    "rows": rows.rows,
    "labelled-boxes": rows.labelled_boxes,
}
"""What model.toml's `layout` may say besides `auto`."""

RAW_ANCHORS = "raw maps of an anchor-based YOLO; export it with its last (Detect) layer"
OTHER_TASKS = {"classify": "classes of whole pictures", "obb": "turned boxes", "semantic": "areas"}
"""Ultralytics' words for networks that give no boxes that could be used."""


def recognised(seen: Seen, layout: str = AUTO) -> Reading:
    """How to read the outputs. Raises ModelError: unknown, unsupported, ambiguous, or unfitting."""
    if layout != AUTO and layout not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        raise ModelError(f"its layout {layout!r} is unknown; known: {AUTO}, {known}")
    if seen.task in OTHER_TASKS:
        raise ModelError(
            f"its metadata say task={seen.task}: it gives {OTHER_TASKS[seen.task]}, and only "
            "detectors with upright boxes are supported"
        )
    if layout == AUTO and _has_anchor_maps(seen):
        raise ModelError(f"its outputs {outputs_of(seen)} are {RAW_ANCHORS}")
    found = _preferred(list(_candidates(seen, layout)), seen)
    if not found:
        raise ModelError(_unfitting(seen, layout))
    if len({(each.layout, each.classes) for each in found}) > 1:
        raise ModelError(_ambiguous(found, seen))
    return found[0]


def outputs_of(seen: Seen) -> str:
    """The outputs as people read them: names and shapes."""
    return ", ".join(f"{each.name} {list(each.shape)}" for each in seen.outputs[:12])


def _candidates(seen: Seen, layout: str) -> Iterator[Reading]:
    if layout != AUTO:
        yield from LAYOUTS[layout](replace(seen, told=True))
        return
    if any(rows.TF_BOXES in given.name for given in seen.outputs):  # and many others beside them
        yield from rows.labelled_boxes(seen)
        return
    for recognise in LAYOUTS.values():
        yield from recognise(seen)


def _has_anchor_maps(seen: Seen) -> bool:
    """Whether each output is a map with a box, objectness and the labels for three anchors."""
    deep = 3 * (5 + (seen.labels or 80))
    shapes = [each.shape for each in seen.outputs]
    return len(shapes) in (2, 3) and all(len(s) == 4 and s[1] == deep for s in shapes)


def _preferred(found: Sequence[Reading], seen: Seen) -> Sequence[Reading]:
    """Where no names are known, heads that have as many classes as COCO win."""
    if seen.labels is not None:
        return found
    usual = [each for each in found if each.classes in COCO_HEADS]
    return usual or found


def _ambiguous(found: Sequence[Reading], seen: Seen) -> str:
    several = sorted({(each.layout, each.classes) for each in found}, key=str)
    named = " or ".join(
        layout + (f" with {classes} labels" if classes else "") for layout, classes in several
    )
    numbers = [classes for _, classes in several]
    by_labels = seen.labels is None and None not in numbers and len(set(numbers)) == len(numbers)
    if len({layout for layout, _ in several}) > 1 and not by_labels:
        advice = " or ".join(sorted({f'layout = "{layout}"' for layout, _ in several}))
    else:
        advice = "labels = [...] with one name for each class"
    return f"its outputs {outputs_of(seen)} fit {named}; write into model.toml: {advice}"


def _unfitting(seen: Seen, layout: str) -> str:
    """What was seen, and what it looks like or would need."""
    told = f"its outputs {outputs_of(seen)} at {seen.size[0]}x{seen.size[1]}"
    if seen.labels is not None:
        others = list(_candidates(replace(seen, labels=None), layout))
        fitting = _preferred([o for o in others if o.classes], replace(seen, labels=None))
        if fitting:
            likely = fitting[0]
            return (
                f"{told} look like the layout {likely.layout} with {likely.classes} labels, but "
                f"{seen.labels} are known; correct labels in its model.toml"
            )
    if layout != AUTO:
        expected = (LAYOUTS[layout].__doc__ or "").split("\n\n")[0].rstrip(".")
        return (
            f"{told} do not fit the layout {layout}, which has {expected}; correct layout, labels "
            "or input size in its model.toml"
        )
    return f"{told} are of no layout that is supported: {_looks_like(seen)}"


def _looks_like(seen: Seen) -> str:
    shapes = [each.shape for each in seen.outputs]
    apart = len({shape[2:] for shape in shapes}) == len(shapes) in (2, 3)
    if any(len(shape) == 5 for shape in shapes) or (
        apart and all(len(s) == 4 and s[1] % 3 == 0 for s in shapes)
    ):
        return RAW_ANCHORS
    if any(shape[-1] == 4 for shape in shapes if shape) and len(shapes) >= 2:
        return (
            "its boxes seem to be offsets from anchors, or its scores do not fit the labels; "
            "export it with its boxes decoded, or say labels, layout and [output] in model.toml"
        )
    if len(shapes) == 1 and len(shapes[0]) == 2:
        return "one row of numbers, as a classifier of whole pictures gives; it finds no objects"
    if shapes and all(len(shape) == 4 for shape in shapes):
        return "maps of the whole picture, as of segmentation or depth, and no boxes"
    return (
        f"supported are {', '.join(LAYOUTS)} (docs/guide/models.md); if it is one of them, say "
        "layout and labels in model.toml"
    )
