"""What the tests of the wire share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.brokers import BrokerHandle, embedded, mosquitto


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerHandle]:
    with mosquitto(tmp_path) if request.param == "mosquitto" else embedded() as handle:
        yield handle
