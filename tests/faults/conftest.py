"""One house for the tests of a file: each test brings its own station."""

from collections.abc import Iterator

import pytest

from tests.faults import rig
from tests.faults.rig import House


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A running broker and center, whose database is sound when the file's tests are over."""
    with rig.house(tmp_path_factory.mktemp("house")) as made:
        yield made
        made.center.process.stop()
        made.check()
