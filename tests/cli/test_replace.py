"""`forecourt replace` against a center."""

import pytest

from tests.cli.conftest import Run
from tests.cli.fake_center import FakeCenter
from wire import specs

WORKER = {"kind": "Worker", "metadata": {"name": "w1", "station": "s1"}}


def test_replace_a_worker(run: Run, center: FakeCenter) -> None:
    """The center is told, and the operator what follows."""
    center.stored["/workers/w1"] = specs.parse(WORKER)
    ran = run("replace", "worker", "w1")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "worker/w1: the next one that would be denied is let in\n"
    assert center.requests == [("POST", "/workers/w1/replace")]


def test_a_worker_that_is_not_there(run: Run, center: FakeCenter) -> None:
    """The center's sentence is passed on."""
    ran = run("replace", "worker", "w1")
    assert (ran.code, ran.out) == (1, "")
    assert "no /workers/w1" in ran.err


@pytest.mark.parametrize(
    "words", [("task", "t1"), ("station", "s1"), ("pump", "p1"), ("worker", "../w1"), ("worker",)]
)
def test_what_cannot_be_replaced_is_bad_input(
    run: Run, center: FakeCenter, words: tuple[str, ...]
) -> None:
    """Nothing is sent."""
    assert run("replace", *words).code == 2
    assert center.requests == []
