"""The recipes of the benchmarks' streams."""

from itertools import pairwise

import pytest

from benchmarks import streams
from edge.vision.detect import Detector


def test_a_mixed_stream_is_active_for_a_quarter_of_its_time() -> None:
    """Three bursts of 5 s a minute, none of which begins with a GOP."""
    made = streams.recipe("mixed", seconds=60)
    assert (made.seconds, made.times) == (60.0, 3)
    active_s = sum(length_s for _, length_s in made.visits) * made.times
    assert active_s == made.seconds / 4
    gop_s = streams.GOP / streams.FPS
    assert all(began_s % gop_s for began_s, _ in made.visits)


def test_visits_are_shorter_and_longer_than_a_rule_must_see() -> None:
    """Else recall by length would tell nothing; between them a stream has time to become idle."""
    visits = streams.recipe("visits").visits
    lengths = [length_s for _, length_s in visits]
    assert min(lengths) < streams.MIN_VISIT_S <= max(lengths)
    for (began_s, length_s), (next_s, _) in pairwise(visits):
        assert next_s - (began_s + length_s) > 5.0


@pytest.mark.parametrize("encoder", ["reference", *streams.VARIANTS])
def test_another_encoder_is_another_recipe(encoder: str) -> None:
    """What is kept under one name is never taken for another."""
    recipes = [streams.recipe(activity, encoder) for activity in streams.ACTIVITIES]
    assert len({repr(recipe) for recipe in recipes}) == len(recipes)
    assert all(recipe.name.startswith(encoder) for recipe in recipes)
    if encoder != "reference":
        assert streams.recipe("idle", encoder) != streams.recipe("idle")


def test_the_task_may_be_watched_by_key_frames() -> None:
    """Its shortest visit is one GOP long; whichever network there is, it knows the class."""
    task = streams.task()
    assert task.spec.rules[0].min_visit == streams.GOP / streams.FPS
    assert "person" in Detector(streams.model()).labels
