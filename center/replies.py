"""What the center says to workers, and to whom on which connection.

Here: the shape of a reply, its topic, and sending it. Not here: what to reply (downlink, ingest).
"""

import logging
from dataclasses import dataclass
from typing import Protocol

from wire import codec, topics
from wire.link import Received
from wire.messages import Delta, Deny, Desired, Down, Rpc

STRANGER_AGAIN_S = 10.0
"""A worker that is installed before it is registered waits no longer than this."""
EXPIRES_S = 60
"""A broker may drop what it could not deliver by then; workers ask again."""

_log = logging.getLogger("forecourt.replies")


class LinkLike(Protocol):
    """What downlink and ingest need of `links.Links`."""

    @property
    def connection(self) -> int | None:
        """By which to send what answers no message; None while nothing can be sent."""

    def publish(
        self,
        connection: int,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        expires_s: int | None = None,
    ) -> bool:
        """Hand a message over; false if it was not taken."""

    def ack(self, message: Received) -> None:
        """Acknowledge a message to the broker."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message for one worker."""

    worker: str
    message: Down

    @property
    def topic(self) -> str:
        """Documents travel on `desired`, calls on `rpc`, everything else on `ack`."""
        match self.message:
            case Desired() | Delta():
                return topics.down(self.worker, "desired")
            case Rpc():
                return topics.down(self.worker, "rpc")
            case _:
                return topics.down(self.worker, "ack")


def send(link: LinkLike, connection: int, reply: Reply) -> bool:
    """Publish a reply; false if the connection did not take it, which the worker survives."""
    payload = codec.encode(reply.message)
    taken = link.publish(connection, reply.topic, payload, qos=1, expires_s=EXPIRES_S)
    if not taken:
        _log.debug("not sent to %s: %s", reply.worker, type(reply.message).__name__)
    return taken


def revoked(worker: str, session: str) -> Deny:
    """The answer to a worker that is not registered."""
    return Deny(
        session=session,
        code="revoked",
        reason=f"no worker {worker} is registered; register it at the center, or correct its name",
        retry_after_s=STRANGER_AGAIN_S,
    )


def unknown_session(session: str, within_s: float = 0.0) -> Deny:
    """The answer to a message of a session that does not count: say hello again, at once."""
    return Deny(
        session=session,
        code="retry",
        reason="this session is not known here; say hello again",
        retry_after_s=within_s,
    )


def challenged(session: str, nonce: str) -> Deny:
    """The answer to an outdated process: who is more than a late copy repeats the nonce."""
    return Deny(
        session=session,
        code="retry",
        reason="a newer agent has this data folder; say hello again to show that this one lives",
        retry_after_s=0.0,
        challenge=nonce,
    )


def busy(session: str, wait_s: float) -> Deny:
    """The answer to a hello beyond what the center takes on at once."""
    return Deny(
        session=session,
        code="retry",
        reason="too many workers come at once; say hello again when it is your turn",
        retry_after_s=wait_s,
    )
