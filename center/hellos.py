"""Hellos: what one shows by itself, and against what the center remembers. Pure.

Here: whether it can be from this worker, evidence of a restored database, its backlog. Not here:
which process holds the identity (fencing), the answer (downlink).
"""

from collections.abc import Sequence

from center.presence import Presence
from wire.events import Watermark
from wire.messages import MAX_EPOCHS, PROTOCOL, Deny, Hello, Known


def impossible(worker: str, hello: Hello) -> Deny | None:
    """Why nobody with this hello can be worker `worker` of this center; None: somebody can."""
    if hello.worker != worker:
        reason = (
            f"a hello of worker {hello.worker[:63]!r} came on the topic of {worker}; "
            "give the agent the name that its certificate has"
        )
        return Deny(session=hello.session, code="revoked", reason=reason)
    if PROTOCOL not in hello.versions:
        spoken = ", ".join(repr(version[:20]) for version in hello.versions[:5])
        reason = (
            f"this center speaks protocol {PROTOCOL}, the worker {spoken or 'none'}; "
            "upgrade the older of the two"
        )
        return Deny(session=hello.session, code="upgrade", reason=reason)
    return None


def evidence(
    held: Presence, hello: Hello, wanted: Known, watermarks: Sequence[Watermark]
) -> str | None:
    """What the worker remembers of this generation and this database does not; None: nothing."""
    if hello.desired.revision > wanted.revision:
        return f"has revision {hello.desired.revision} of its document, not {wanted.revision}"
    if hello.instance == held.identity.instance and hello.fence > held.fence:
        return f"was given fence {hello.fence}, not {held.fence}"
    stored = {(one.epoch, one.lane): one.seq for one in watermarks}
    for one in hello.epochs[:MAX_EPOCHS]:
        seq = stored[one.epoch, one.lane]
        if one.low - 1 > seq:
            return f"was acknowledged events up to {one.low - 1} of an epoch, not {seq}"
    return None


def backlog(hello: Hello) -> int:
    """Events of lane `bulk` that happened before this session."""
    return sum(max(0, one.high - one.low + 1) for one in hello.epochs if one.lane == "bulk")
