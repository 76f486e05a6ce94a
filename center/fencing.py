"""Fencing: which of those that speak as one worker is the worker. Pure.

Here: what a hello's history entitles it to. Not here: rows (presence), messages (downlink).

A fence outdates every lower one. It is given to a process, and only ever rises.
"""

from dataclasses import dataclass, replace
from typing import Literal

from wire.messages import Hello

SILENT_HEARTBEATS = 3
MAX_BOOTS = 8
"""Outdated boots that are remembered, and likewise banned ones: the newest."""
FENCED_AGAIN_S = 60.0

Gone = Literal["", "will", "bye"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who holds a worker's identity, and who did."""

    instance: str = ""
    """'': nobody was ever heard."""
    boot: str = ""
    past_boots: tuple[str, ...] = ()
    """Outdated by a restart, newest last."""
    banned_boots: tuple[str, ...] = ()
    """Clones: denied until an operator says replace."""
    fence: int = 0
    challenge: str = ""
    """`BOOT NONCE` that an outdated boot is to repeat; '': none is open."""
    replace: bool = False
    """An operator lets the next one in that would be denied."""
    heard_ms: int | None = None
    gone: Gone = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The hello's process holds the identity from now on."""

    identity: Identity
    clone: bool = False
    """The one that held it until now lives too, and is banned."""


@dataclass(frozen=True, slots=True)
class Challenged:
    """An outdated boot may be a late copy of its hello; only a living one can repeat the nonce."""

    identity: Identity
    nonce: str


@dataclass(frozen=True, slots=True)
class Fenced:
    """It is not let in, and why, in words that say what to do."""

    reason: str
    retry_after_s: float
    clone: bool = False


Verdict = Accepted | Challenged | Fenced


def judge(
    worker: str, held: Identity, hello: Hello, now_ms: int, heartbeat_s: float, nonce: str
) -> Verdict:
    """What becomes of this hello. `nonce` is used where a challenge has to be made up.

    The same boot keeps its fence, so a hello may be said twice. A new boot of the same data folder
    is a restart and outdates the last. An outdated boot that proves to live is the elder of two
    clones: it gets the identity back. Another data folder is another device: it may not take over
    from one that is heard.
    """
    if hello.boot in held.banned_boots:
        if held.replace:
            return _replaced(held, hello, now_ms, heartbeat_s)
        return Fenced(
            f"an older agent of worker {worker} with a copy of the same data folder lives; stop "
            "one of the two and give it a worker name and an empty data folder of its own; to "
            f"keep this one instead: forecourt replace worker {worker}",
            FENCED_AGAIN_S,
            clone=True,
        )
    if hello.instance == held.instance:
        return _of_same_instance(held, hello, nonce)
    wait_s = _silent_in_s(held, now_ms, heartbeat_s)
    if wait_s is None:
        return Accepted(_taken_over(held, hello))
    if held.replace:
        return _replaced(held, hello, now_ms, heartbeat_s)
    return Fenced(
        f"another device speaks as worker {worker}; stop it, and this one is accepted when it has "
        f"been silent for {SILENT_HEARTBEATS} heartbeats; or: forecourt replace worker {worker}",
        max(1.0, wait_s),
    )


def _of_same_instance(held: Identity, hello: Hello, nonce: str) -> Accepted | Challenged:
    if hello.boot == held.boot:
        fence = max(held.fence, hello.fence)
        return Accepted(replace(held, fence=fence))
    if hello.boot not in held.past_boots:
        past = (*held.past_boots, held.boot) if held.boot else held.past_boots
        return Accepted(
            replace(held, boot=hello.boot, past_boots=past[-MAX_BOOTS:], fence=_risen(held, hello))
        )
    boot, _, open_nonce = held.challenge.rpartition(" ")
    if boot == hello.boot and open_nonce and hello.challenge == open_nonce:
        return Accepted(
            replace(
                held,
                boot=hello.boot,
                past_boots=_without(held.past_boots, hello.boot),
                banned_boots=(*held.banned_boots, held.boot)[-MAX_BOOTS:],
                fence=_risen(held, hello),
                challenge="",
            ),
            clone=True,
        )
    if boot == hello.boot and open_nonce:
        nonce = open_nonce  # the answer to it may be on its way
    return Challenged(replace(held, challenge=f"{hello.boot} {nonce}"), nonce)


def _taken_over(held: Identity, hello: Hello) -> Identity:
    """Another device has the identity; nothing that the operator allowed is left open."""
    return replace(
        held,
        instance=hello.instance,
        boot=hello.boot,
        past_boots=(),
        banned_boots=_without(held.banned_boots, hello.boot),
        fence=_risen(held, hello),
        challenge="",
        replace=False,
    )


def _replaced(held: Identity, hello: Hello, now_ms: int, heartbeat_s: float) -> Accepted:
    """As the operator said; who had the identity is banned if it still lives."""
    taken = _taken_over(held, hello)
    outdated = tuple(boot for boot in (held.boot,) if boot != hello.boot)
    past: tuple[str, ...] = ()
    banned = _without(taken.banned_boots, held.boot)
    if hello.instance == held.instance:
        past = _without(held.past_boots, hello.boot)
    if _silent_in_s(held, now_ms, heartbeat_s) is not None:
        banned = (*banned, *outdated)
    elif hello.instance == held.instance:
        past = (*past, *outdated)
    return Accepted(replace(taken, past_boots=past[-MAX_BOOTS:], banned_boots=banned[-MAX_BOOTS:]))


def _silent_in_s(held: Identity, now_ms: int, heartbeat_s: float) -> float | None:
    """Seconds until the one that holds the identity counts as silent; None if it does now."""
    if not held.instance or held.gone == "bye" or held.heard_ms is None:
        return None
    left_s = SILENT_HEARTBEATS * heartbeat_s - (now_ms - held.heard_ms) / 1000
    return None if left_s < 0 else left_s


def _risen(held: Identity, hello: Hello) -> int:
    return max(held.fence, hello.fence) + 1


def _without(boots: tuple[str, ...], boot: str) -> tuple[str, ...]:
    return tuple(each for each in boots if each != boot)
