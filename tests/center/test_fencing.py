"""Fencing: who is let in as a worker, with which fence, and who is turned away."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from center.fencing import Accepted, Challenged, Fenced, Identity, Verdict, judge
from tests.parts.workers import Voice
from wire.messages import Hello

HEARTBEAT_S = 10.0
NOW_MS = 1_800_000_000_000
NONCE = "0123456789abcdef"
HELD = Identity(
    instance="disk-1",
    boot="boot-2",
    past_boots=("boot-1",),
    banned_boots=("boot-0",),
    fence=7,
    heard_ms=NOW_MS,
)
OPEN = replace(HELD, challenge="boot-1 open")
ALLOWED = replace(HELD, replace=True)


def judged(held: Identity, hello: Hello) -> Verdict:
    return judge("w1", held, hello, NOW_MS, HEARTBEAT_S, NONCE)


@pytest.mark.parametrize(
    ("held", "voice", "fence"),
    [
        (Identity(), Voice(fence=0), 1),
        (HELD, Voice(boot="boot-2", session="session-2", fence=7), 7),
        (HELD, Voice(boot="boot-2", session="session-3", fence=9), 9),
        (HELD, Voice(boot="boot-3", fence=7), 8),
        (HELD, Voice(boot="boot-3", fence=20), 21),
        (replace(HELD, gone="bye"), Voice(instance="disk-2"), 8),
        (replace(HELD, heard_ms=NOW_MS - 30_001), Voice(instance="disk-2", fence=3), 8),
    ],
    ids=["first", "again", "reconnect", "new-boot", "restored", "after-bye", "after-silence"],
)
def test_who_is_accepted(held: Identity, voice: Voice, fence: int) -> None:
    """A hello is accepted with the fence that its history gives it."""
    verdict = judged(held, voice.hello())
    assert isinstance(verdict, Accepted)
    assert not verdict.clone
    assert (verdict.identity.fence, verdict.identity.boot) == (fence, voice.boot)
    assert verdict.identity.instance == voice.instance


@pytest.mark.parametrize(
    ("held", "voice", "clone"),
    [
        (HELD, Voice(instance="disk-2", fence=99), False),
        (replace(HELD, gone="will"), Voice(instance="disk-2"), False),
        (replace(HELD, heard_ms=NOW_MS - 30_000), Voice(instance="disk-2"), False),
        (HELD, Voice(boot="boot-0"), True),
        (replace(HELD, gone="bye"), Voice(boot="boot-0"), True),
    ],
    ids=["another-disk", "will-is-not-bye", "three-beats-exactly", "banned", "banned-for-good"],
)
def test_who_is_fenced(held: Identity, voice: Voice, clone: bool) -> None:
    """A second device while the first is heard, and a clone, are refused with a way out."""
    verdict = judged(held, voice.hello())
    assert isinstance(verdict, Fenced)
    assert "forecourt replace worker w1" in verdict.reason
    assert verdict.retry_after_s >= 1
    assert verdict.clone == clone


@pytest.mark.parametrize(
    ("held", "answer", "nonce"),
    [
        (HELD, "", NONCE),
        (HELD, "open", NONCE),
        (OPEN, "", "open"),
        (OPEN, "wrong", "open"),
        (replace(HELD, challenge="boot-5 open"), "open", NONCE),
        (replace(HELD, challenge="boot-1 "), "", NONCE),
    ],
    ids=["first", "none-is-open", "late-copy", "wrong", "of-another-boot", "empty"],
)
def test_an_outdated_boot_is_challenged(held: Identity, answer: str, nonce: str) -> None:
    """Nothing but the open challenge changes; while one is open, it stays the same."""
    verdict = judged(held, Voice(boot="boot-1").hello(challenge=answer))
    assert isinstance(verdict, Challenged)
    assert verdict.nonce == nonce
    assert verdict.identity == replace(held, challenge=f"boot-1 {nonce}")


def test_the_elder_of_two_clones_keeps_the_identity() -> None:
    """An outdated boot that proves to live is the worker again; the one that came later is not."""
    verdict = judged(OPEN, Voice(boot="boot-1", fence=6).hello(challenge="open"))
    assert isinstance(verdict, Accepted)
    assert verdict.clone
    assert verdict.identity == replace(
        OPEN,
        boot="boot-1",
        past_boots=(),
        banned_boots=("boot-0", "boot-2"),
        fence=8,
        challenge="",
    )
    assert isinstance(judged(verdict.identity, Voice(boot="boot-2", fence=7).hello()), Fenced)


@pytest.mark.parametrize("voice", [Voice(boot="boot-0"), Voice(instance="disk-2", boot="boot-9")])
@pytest.mark.parametrize("lives", [True, False])
def test_an_operator_says_replace(voice: Voice, lives: bool) -> None:
    """The one that would be denied is let in once; who had the identity is banned if it lives."""
    held = ALLOWED if lives else replace(ALLOWED, gone="bye")
    verdict = judged(held, voice.hello())
    assert isinstance(verdict, Accepted)
    after = verdict.identity
    assert (after.boot, after.fence, after.replace) == (voice.boot, 8, False)
    assert voice.boot not in after.banned_boots
    assert ("boot-2" in after.banned_boots) == lives
    if lives:
        assert isinstance(judged(after, Voice(boot="boot-2", fence=7).hello()), Fenced)


def test_a_restart_does_not_use_the_operators_word_up() -> None:
    """`replace` waits for one that would be denied."""
    verdict = judged(ALLOWED, Voice(boot="boot-3").hello())
    assert isinstance(verdict, Accepted)
    assert verdict.identity.replace


def test_a_clone_that_restarts_is_any_restart() -> None:
    """A new boot of the data folder is accepted: nobody can tell which copy it comes from."""
    assert isinstance(judged(HELD, Voice(boot="boot-0-again").hello()), Accepted)


WORDS = st.sampled_from(["boot-0", "boot-1", "boot-2", "boot-3", "boot-4"])
HELLOS = st.builds(
    lambda instance, boot, fence, challenge: Voice(instance=instance, boot=boot, fence=fence).hello(
        challenge=challenge
    ),
    st.sampled_from(["disk-1", "disk-2"]),
    WORDS,
    st.integers(0, 30),
    st.sampled_from(["", NONCE]),
)


@settings(max_examples=40)
@given(st.lists(st.tuples(HELLOS, st.integers(0, 60_000), st.booleans()), max_size=12))
def test_whatever_is_said_fences_only_rise(story: list[tuple[Hello, int, bool]]) -> None:
    """Another process never gets the fence of the one before, and nobody banned is let in."""
    held, now_ms = Identity(), NOW_MS
    for hello, passed_ms, allowed in story:
        now_ms += passed_ms
        held = replace(held, replace=held.replace or allowed)
        verdict = judge("w1", held, hello, now_ms, HEARTBEAT_S, NONCE)
        if isinstance(verdict, Accepted):
            after = verdict.identity
            same = (after.instance, after.boot) == (held.instance, held.boot)
            assert after.fence >= held.fence if same else after.fence > held.fence
            assert hello.boot not in held.banned_boots or held.replace
            assert after.boot not in (*after.past_boots, *after.banned_boots)
            assert len(after.past_boots) <= 8
            assert len(after.banned_boots) <= 8
            held = replace(after, heard_ms=now_ms)
        elif isinstance(verdict, Challenged):
            assert replace(verdict.identity, challenge="") == replace(held, challenge="")
            held = verdict.identity
