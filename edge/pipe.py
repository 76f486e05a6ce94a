"""What the agent and a shard say to each other over their pipe.

Here: plain frozen messages, and nothing that decodes or infers: the agent imports this file, and it
must stay small. Not here: what either does about a message (shards, shard).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from edge.reconcile import Action, StreamKey
from wire.facts import Fact
from wire.messages import ItemObserved, StreamHealth


@dataclass(frozen=True, slots=True)
class Settings:
    """What a shard must know before it starts."""

    models: tuple[str, ...]
    """Folders in which models lie, looked through in this order."""
    boot: str
    """The agent process that the events speak of."""
    threads: int
    """Threads of one inference."""
    log_level: str
    inference: tuple[str, ...] = ("cpu",)
    """What may run networks, best first."""
    plates_key: bytes = b""
    """What makes pseudonyms of number plates; empty: another one in each process."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Agent to shard: do this."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """Agent to shard: the events of that message are on disk."""

    number: int


@dataclass(frozen=True, slots=True)
class Show:
    """Agent to shard: send the next picture of a stream, answered by number."""

    number: int
    key: StreamKey
    width: int
    """The most that it may be wide, in pixels."""
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Agent to shard: use no more CPU than this from now on."""

    cores: float


@dataclass(frozen=True, slots=True)
class Inputs:
    """Agent to shard: so say the station's inputs; what was said before holds for the others."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """A model of the center that has proven itself, ready to be loaded."""

    name: str
    path: str
    """Its file, whole and verified."""
    document: bytes
    """wire.models.canonical of it."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """A model of the center that cannot be used, in words for an operator."""

    name: str
    reason: str
    hopeless: bool
    """It is no good; otherwise it will come."""


@dataclass(frozen=True, slots=True)
class Supply:
    """Agent to shard: so it stands with all models of the center that tasks here may name."""

    given: tuple[Given, ...] = ()
    withheld: tuple[Withheld, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """Agent to shard: end open incidents as interrupted, then stop."""


@dataclass(frozen=True, slots=True)
class Happened:
    """Shard to agent: events (encoded), to be stored and answered by number."""

    number: int
    events: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """Shard to agent, every second: how its streams and tasks fare."""

    streams: tuple[StreamHealth, ...]
    tasks: tuple[ItemObserved, ...]
    looks: int
    """Pictures analysed since the shard started."""
    coverage: Mapping[str, float] = field(default_factory=dict)
    """By task: looks made ÷ looks wanted over the last minute, where any was wanted."""
    plates_shed: int = 0
    """Pictures since the shard started in which a plate was to be read, and nobody had time."""
    catch_ups_dropped: int = 0
    """Times since the shard started that the CPU was too short to decode what was left out."""
    refused: tuple[tuple[str, bytes, str], ...] = ()
    """Models of the center that it cannot load: name, document, why."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Shard to agent: the picture that was asked for, or in `error` why there is none."""

    number: int
    jpeg: bytes = b""
    width: int = 0
    height: int = 0
    t_ms: int = 0
    """Its wall time, UTC."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """Shard to agent: everything was said and stored."""


class PictureError(Exception):
    """Why there is no live picture of a stream, and what to do."""


ToShard = Settings | Apply | Budget | Inputs | Stored | Supply | Show | Finish
ToAgent = Happened | Beat | Shown | Finished
Pipe = Connection
