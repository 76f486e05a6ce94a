"""Healing: what follows when a worker's digests are not the center's. Pure.

Here: send the document, ask for observed, or give up and say so. Not here: rows (presence), sending
(documents, downlink).

Each remedy is tried once. If a worker differs after it, something is wrong that trying again will
hardly cure: an operator is told, and the center waits for the next change or session, or ten
minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from wire.messages import Known

CLONE_QUIET_MS = 600_000
"""A clone that was denied asks again within a minute; this long after its last word it is gone."""

AGAIN_MS = 600_000
"""What did not help may help later: a line was bad, a disk was full."""

Sort = Literal["clone", "desired", "observed"]
Trouble = tuple[str, int]
"""A sentence for operators, and since when (of a clone: when it was last heard), in UTC ms."""

_CURABLE: tuple[Sort, ...] = ("desired", "observed")
_SENTENCES: dict[Sort, str] = {
    "desired": "the worker does not take the document that it was sent twice; look at its log, "
    "then change a task or restart the agent to have it sent again",
    "observed": "the worker does not say what became of its tasks though it was asked; look at "
    "its log, or restart the agent",
}


@dataclass(frozen=True, slots=True)
class Healing:
    """What was tried already with one worker, and what did not help."""

    repaired_digest: str = ""
    """Of the whole document last sent because a heartbeat differed; '': none."""
    asked_digest: str = ""
    """The observed digest that the worker was asked about; '': none."""
    troubles: Mapping[Sort, Trouble] = field(default_factory=dict)

    def begun_anew(self) -> "Healing":
        """For a new session or document: everything may be tried again."""
        return _without(Healing(troubles=self.troubles), *_CURABLE)

    def answered(self, observed_digest: str) -> "Healing":
        """After a report: whether it was what was asked for shows in the digest that it led to."""
        if not self.asked_digest or observed_digest != self.asked_digest:
            return self
        return _without(replace(self, asked_digest=""), "observed")

    def troubled(self, sort: Sort, sentence: str, now_ms: int) -> "Healing":
        """With a trouble that operators are to see."""
        return replace(self, troubles={**self.troubles, sort: (sentence, now_ms)})


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next."""

    healing: Healing
    send: bool = False
    """The worker needs another document."""
    ask: bool = False
    """The worker is to say what became of all items."""
    stuck: Sort | None = None
    """What has just turned out not to heal."""


def step(
    healing: Healing,
    wanted: Known,
    observed_digest: str,
    said: Known,
    said_observed: str,
    now_ms: int,
) -> Step:
    """What to do about a worker that says it has document `said` and observed so much.

    `wanted` and `observed_digest` are the center's. `said_observed` may be '': it does not say.
    """
    healing = _without_quiet_clone(healing, now_ms)
    if said != wanted:
        if healing.repaired_digest != wanted.digest:
            return Step(healing, send=True)
        return _given_up(healing, "desired", now_ms)
    healing = _without(replace(healing, repaired_digest=""), "desired")
    if not said_observed:
        return Step(healing)
    if said_observed == observed_digest:
        return Step(_without(replace(healing, asked_digest=""), "observed"))
    if not healing.asked_digest:
        return Step(replace(healing, asked_digest=said_observed), ask=True)
    return _given_up(healing, "observed", now_ms)


def _given_up(healing: Healing, sort: Sort, now_ms: int) -> Step:
    if sort in healing.troubles:
        sentence, since_ms = healing.troubles[sort]
        if now_ms - since_ms < AGAIN_MS:
            return Step(healing)
        again = healing.troubled(sort, sentence, now_ms)
        return Step(again, send=sort == "desired", ask=sort == "observed")
    return Step(healing.troubled(sort, _SENTENCES[sort], now_ms), stuck=sort)


def _without(healing: Healing, *sorts: Sort) -> Healing:
    if not any(sort in healing.troubles for sort in sorts):
        return healing
    kept = {sort: trouble for sort, trouble in healing.troubles.items() if sort not in sorts}
    return replace(healing, troubles=kept)


def _without_quiet_clone(healing: Healing, now_ms: int) -> Healing:
    clone = healing.troubles.get("clone")
    if clone is None or now_ms - clone[1] <= CLONE_QUIET_MS:
        return healing
    return _without(healing, "clone")
