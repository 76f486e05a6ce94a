"""Topics: a name is a name to its last character."""

import pytest

from wire import topics


@pytest.mark.parametrize("worker", ["w1\n", "w1/x", "+", "#", "", "W1", "w" * 64])
def test_what_is_no_name_is_in_no_topic(worker: str) -> None:
    """Neither built nor parsed; a newline at the end is no part of a name either."""
    with pytest.raises(ValueError, match="no worker's name"):
        topics.up(worker, "hb")
    with pytest.raises(ValueError, match="no topic of"):
        topics.parse(f"{topics.ROOT}/up/{worker}/hb")


def test_a_topic_is_read_as_it_was_built() -> None:
    """Worker and channel come back, in both directions."""
    assert topics.parse(topics.up("w1", "ev/alarm")) == topics.UpTopic("w1", "ev/alarm")
    assert topics.parse(topics.down("w1", "ack")) == topics.DownTopic("w1", "ack")
