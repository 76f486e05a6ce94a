"""The console's list of events shows what it is given."""

import re
from pathlib import Path

import center.console
from center.console import watch


def test_the_feed_gets_every_field_that_it_shows() -> None:
    """A field that the page reads and the reader leaves out would never be seen."""
    page = (Path(center.console.__file__).parent / "feed.js").read_text()
    assert set(re.findall(r"\bevent\.(\w+)", page)) <= set(watch._SHOWN)
