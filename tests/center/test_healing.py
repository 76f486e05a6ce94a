"""Healing: each remedy once, then an operator is told, and it ends when the digests agree."""

from dataclasses import replace

import pytest

from center.healing import AGAIN_MS, CLONE_QUIET_MS, Healing, Step, step
from wire.messages import Known

NOW_MS = 1_800_000_000_000
OURS = Known(generation=1, revision=5, digest="ours")
THEIRS = Known(generation=1, revision=4, digest="theirs")
FRESH = Healing()
REPAIRED = Healing(repaired_digest="ours")
ASKED = Healing(asked_digest="B")


def stepped(healing: Healing, said: Known = OURS, observed: str = "A") -> Step:
    return step(healing, OURS, "A", said, observed, NOW_MS)


@pytest.mark.parametrize(
    ("healing", "said", "observed", "send", "ask", "stuck"),
    [
        (FRESH, OURS, "A", False, False, None),
        (FRESH, OURS, "", False, False, None),
        (FRESH, THEIRS, "A", True, False, None),
        (FRESH, THEIRS, "B", True, False, None),
        (Healing(repaired_digest="an earlier one"), THEIRS, "A", True, False, None),
        (REPAIRED, THEIRS, "A", False, False, "desired"),
        (FRESH, OURS, "B", False, True, None),
        (ASKED, OURS, "B", False, False, "observed"),
        (ASKED, OURS, "C", False, False, "observed"),
        (ASKED, THEIRS, "B", True, False, None),
    ],
)
def test_what_follows(
    healing: Healing, said: Known, observed: str, send: bool, ask: bool, stuck: str | None
) -> None:
    """Send first, ask only about the same document, and give up after one try."""
    found = stepped(healing, said, observed)
    assert (found.send, found.ask, found.stuck) == (send, ask, stuck)


@pytest.mark.parametrize(("healing", "said"), [(REPAIRED, THEIRS), (ASKED, OURS)])
def test_trouble_is_told_once_and_ends(healing: Healing, said: Known) -> None:
    """I5: it waits instead of looping, and is over as soon as the digests agree."""
    first = stepped(healing, said, "B")
    assert first.stuck is not None
    assert first.stuck in first.healing.troubles
    again = stepped(first.healing, said, "B")
    assert again == Step(first.healing)
    healed = stepped(again.healing, OURS, "A")
    assert healed == Step(FRESH)


@pytest.mark.parametrize(("healing", "said"), [(REPAIRED, THEIRS), (ASKED, OURS)])
def test_it_is_tried_again_after_a_while(healing: Healing, said: Known) -> None:
    """I5: what was lost twice on a bad line is not given up for ever; the trouble is still told."""
    stuck = stepped(healing, said, "B")
    later = step(stuck.healing, OURS, "A", said, "B", NOW_MS + AGAIN_MS)
    assert later.send or later.ask
    assert later.stuck is None
    assert list(later.healing.troubles) == list(stuck.healing.troubles)
    soon = step(later.healing, OURS, "A", said, "B", NOW_MS + AGAIN_MS + 1)
    assert not soon.send
    assert not soon.ask


def test_a_new_session_or_document_may_try_again() -> None:
    """What was tried is forgotten, but a clone is not."""
    stuck = stepped(REPAIRED, THEIRS).healing.troubled("clone", "two live", NOW_MS)
    anew = stuck.begun_anew()
    assert list(anew.troubles) == ["clone"]
    assert stepped(anew, THEIRS).send


def test_the_answer_that_was_asked_for() -> None:
    """A report that leads to the digest asked about settles it; another does not."""
    asked = stepped(FRESH, OURS, "B").healing
    assert asked.answered("C") == asked
    assert asked.answered("B") == FRESH
    assert FRESH.answered("") == FRESH


def test_a_clone_that_is_quiet_is_no_trouble_any_more() -> None:
    """It would have asked again."""
    heard = FRESH.troubled("clone", "two live", NOW_MS - CLONE_QUIET_MS)
    assert stepped(heard).healing == heard
    quiet = replace(heard, troubles={"clone": ("two live", NOW_MS - CLONE_QUIET_MS - 1)})
    assert stepped(quiet).healing == FRESH
