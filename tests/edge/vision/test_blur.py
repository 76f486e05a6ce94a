"""What is hidden in a picture: nothing of it is left, and nothing else is touched."""

import numpy as np
import pytest

from edge.vision.blur import CELLS, FILL, Hidden, hidden_by, hide
from tests.parts.clips import Picture
from wire import specs

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
TRIANGLE = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0))


def noise(width: int = 800, height: int = 450, seed: int = 7) -> Picture:
    """A picture in which each pixel is different."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def test_nothing_to_hide_leaves_the_picture_as_it_is() -> None:
    """The very same picture, without a copy."""
    picture = noise()
    assert hide(picture, Hidden()) is picture


def test_a_mask_is_filled_and_the_rest_untouched() -> None:
    """Up to the pixels of its edge."""
    picture = noise()
    made = hide(picture, Hidden(masks=(LEFT,)))
    assert (made[:, :400] == FILL).all()
    assert (made[:, 403:] == picture[:, 403:]).all()


def test_what_differs_within_a_cell_is_gone_after_a_blur() -> None:
    """Two pictures that differ only in their details are the same afterwards: none comes back."""
    first = noise(800, 480)
    cell = 800 // CELLS
    cells = first.reshape(480 // cell, cell, CELLS, cell, 3)
    second = cells[:, ::-1, :, ::-1].reshape(first.shape)  # each cell upside down
    made = [hide(each, Hidden(blurs=(LEFT,)))[:, :400] for each in (first, second)]
    assert (made[0] == made[1]).all()
    assert (first[:, :400] != second[:, :400]).mean() > 0.9
    assert made[0].std() < 12 < first.std()


@pytest.mark.parametrize("part", [(200, 100, 600, 400), (399, 0, 800, 450), (700, 300, 800, 450)])
def test_a_part_of_a_picture_hides_the_same(part: tuple[int, int, int, int]) -> None:
    """A crop shows nothing that the whole picture would not show."""
    x1, y1, x2, y2 = part
    picture = noise()
    window = (x1 / 800, y1 / 450, x2 / 800, y2 / 450)
    hidden = Hidden(masks=(TRIANGLE,), blurs=(LEFT,))
    whole = hide(picture, hidden)[y1:y2, x1:x2]
    made = hide(picture[y1:y2, x1:x2], hidden, window)
    same = (whole == picture[y1:y2, x1:x2]).all(axis=2)
    assert ((made == picture[y1:y2, x1:x2]).all(axis=2) == same).mean() > 0.999
    assert ((made == FILL).all(axis=2) == (whole == FILL).all(axis=2)).mean() > 0.999


def test_any_task_of_a_stream_hides() -> None:
    """The union of what its tasks name; the same area twice is one."""
    tasks = []
    wishes: tuple[dict[str, object], ...] = (
        {"masks": {"a": LEFT}},
        {"blur": {"b": TRIANGLE}, "masks": {"c": LEFT}},
    )
    for number, fields in enumerate(wishes):
        task = specs.parse(
            {
                "kind": "Task",
                "metadata": {"name": f"t{number}", "station": "s"},
                "spec": {
                    "camera": "c",
                    "model": {"name": "m"},
                    "rules": [{"name": "r", "when": {"class": "car"}}],
                    **fields,
                },
            }
        )
        assert isinstance(task, specs.Task)
        tasks.append(task)
    assert hidden_by(tasks) == Hidden(masks=(LEFT,), blurs=(TRIANGLE,))
    assert hidden_by([]) == Hidden()
