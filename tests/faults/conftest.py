"""One house for all of these tests: each brings its own stations."""

from collections.abc import Iterator

import pytest

from tests.faults import rig
from tests.faults.rig import House


@pytest.fixture(scope="package")
def lasting_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A broker and a center, whose database is sound when the tests are over."""
    with rig.house(tmp_path_factory.mktemp("house")) as made:
        yield made
        made.center.process.stop()
        made.check()


@pytest.fixture
def house(lasting_house: House) -> House:
    """The house with its center alive, whatever the test before did to it."""
    if not lasting_house.center.process.alive:
        lasting_house.restart_center()
    return lasting_house
