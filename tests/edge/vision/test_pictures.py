"""The benchmark on labelled pictures: its metric is right, and its two ways see the same."""

from pathlib import Path

import pytest

from benchmarks import pictures
from tests.parts.clips import asset


def test_the_metric_gives_the_published_result() -> None:
    """On detections whose average precision is known."""
    assets = asset("eval/coco_metrics_reference").parents[1]
    assert pictures.oracle_ap(assets) == pytest.approx(pictures.ORACLE_AP, abs=1e-6)


@pytest.mark.parametrize("name", pictures.DETECTORS)
def test_our_path_sees_what_the_reference_sees(name: str) -> None:
    """The same objects of the same scores, at the same places to a pixel."""
    model = asset(f"models/{name}.onnx")
    assets = model.parents[1]
    file = asset("eval/coco_cc_by/val2017/000000000885.jpg")
    ours = strong(pictures.stills(model)(file))
    theirs = strong(pictures.reference(name, model, pictures.coco_names(assets))(file))
    assert [label for label, _, _ in ours] == [label for label, _, _ in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one[1] == pytest.approx(other[1], abs=0.01)
        assert one[2] == pytest.approx(other[2], abs=3)


def strong(found: pictures.Rows) -> list[pictures.Row]:
    return sorted((row for row in found if row[1] > 0.4), key=lambda row: -row[1])


def test_a_picture_of_a_stream_is_seen_alike() -> None:
    """A still and a stream's frame of the same file show the same people."""
    model = asset("models/yolox_nano.onnx")
    file = Path(asset("eval/coco_cc_by/val2017/000000000885.jpg"))
    still, frame = (
        sorted(row[0] for row in find(model)(file) if row[1] > 0.5)
        for find in (pictures.stills, pictures.streamed)
    )
    assert still == frame
    assert still.count("person") >= 2
