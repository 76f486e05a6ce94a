"""What all tests share: how hypothesis works on noisy machines, and the database server."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.parts.postgres import Postgres, postgres

settings.register_profile("forecourt", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("forecourt")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real PostgreSQL, where it is installed; started for the first test that asks."""
    with postgres() as server:
        yield server
