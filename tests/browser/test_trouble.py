"""What an operator sees of a worker that is not as it should be."""

import pytest

from tests.browser.conftest import Console
from tests.parts.workers import Voice, fake_worker
from wire.messages import Deny

pytestmark = pytest.mark.browser


def test_a_clone_is_shown_with_what_to_do(console: Console) -> None:
    """Two live processes with one identity: the station's page says so without a reload."""
    console.furnish("trouble", "trouble-w1", "gate")
    opened = console.open("/console/stations/trouble")
    elder = Voice(worker="trouble-w1", boot="m1-elder", session="session-elder")
    clone = Voice(worker="trouble-w1", boot="m1-clone", session="session-clone")
    with (
        fake_worker(console.broker_url, elder) as first,
        fake_worker(console.broker_url, clone) as second,
    ):
        first.join()
        second.join()
        first.say("hello", elder.hello())
        challenge = first.wait_for(Deny).challenge
        first.say("hello", elder.hello(challenge=challenge))
        page = opened.page
        page.get_by_text("two agents with copies of one data folder live").wait_for()
        page.get_by_text("forecourt replace worker").or_(
            page.get_by_text("say replace")
        ).first.wait_for()
        opened.screenshot("console-trouble")
        assert not opened.complaints
