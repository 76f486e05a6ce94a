"""Desired and observed converge whatever the messages between them go through, in one process.

The center is the real one over a real database, the worker's document lies in the real store;
hypothesis plays the operator, the network, and the deaths. Over real processes it is proven in
test_sessions.py.
"""

from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from center import dispatch, presence
from edge.clock import SystemClock
from edge.observed import digest_of
from edge.store.desired import DesiredError, DesiredStore
from tests.parts import centers
from tests.parts.workers import Voice
from wire.messages import (
    Ask,
    Delta,
    Deny,
    Desired,
    Down,
    Item,
    ItemObserved,
    Known,
    Observed,
    Up,
    Welcome,
)
from wire.topics import UpChannel

NAMES = ("t0", "t1", "t2", "t3")
LATE = 40
"""Messages down that the network holds at most."""
TURNS = 8
"""Within so many heartbeats on a good network all is well."""
FATES = st.sampled_from(["pass", "pass", "lost", "twice"])


class Conversation(RuleBasedStateMachine):
    """One worker and its center, with a bad network between."""

    def __init__(self) -> None:
        super().__init__()
        self._parts = ExitStack()
        folder = Path(self._parts.enter_context(TemporaryDirectory()))
        self.center = self._parts.enter_context(centers.rig(folder / "center"))
        centers.furnish(self.center.desk)
        self.path = folder / "desired.db"
        self.store = DesiredStore(self.path, SystemClock())
        self.voice = Voice(worker="w1", boot="machine-0", session="session-0")
        self.welcomed = False
        self.number = 0
        self.coming: list[Down] = []

    # --- the operator ---

    @rule(name=st.sampled_from(NAMES), seconds=st.integers(1, 5))
    def wishes(self, name: str, seconds: int) -> None:
        somebody = {"name": "somebody", "when": {"class": "person"}, "for": f"{seconds}s"}
        self.center.desk.put(centers.task(name, rules=[somebody]))

    @rule(name=st.sampled_from(NAMES))
    def wishes_no_more(self, name: str) -> None:
        with self.center.database.reading() as connection:
            known = dispatch.wanted_keys(connection, "w1")
        if ("Task", name) in known:
            self.center.desk.delete_task("s1", name)

    # --- the worker ---

    @rule(fate=FATES)
    def connects(self, fate: str) -> None:
        self.number += 1
        self.voice = replace(self.voice, session=f"session-{self.number}")
        self.welcomed = False
        self._hello(fate)

    @rule(fate=FATES)
    def restarts(self, fate: str) -> None:
        self.store.close()
        self.store = DesiredStore(self.path, SystemClock())
        self.number += 1
        self.voice = replace(
            self.voice, boot=f"machine-{self.number}", session=f"session-{self.number}"
        )
        self.welcomed = False
        self._hello(fate)

    @rule(fate=FATES)
    def beats(self, fate: str) -> None:
        self.center.clock.pass_s(5)
        if not self.welcomed:
            self._hello(fate)
            return
        beat = self.voice.heartbeat(
            desired=self.store.known(), observed=digest_of(self._items()), pending={}
        )
        self._say("hb", beat, fate)

    @rule(fate=FATES)
    def tells(self, fate: str) -> None:
        if self.welcomed:
            told = Observed(
                session=self.voice.session, desired=self.store.known(), items=self._items()
            )
            self._say("observed", told, fate)

    # --- the network ---

    @rule(place=st.integers(0, LATE), fate=FATES)
    def delivers(self, place: int, fate: str) -> None:
        if not self.coming:
            return
        message = self.coming[place % len(self.coming)]
        if fate != "twice":
            self.coming.remove(message)
        if fate != "lost":
            self._hear(message)

    @rule()
    def pushes(self) -> None:
        """The center sends what has changed."""
        woken, self.center.woken[:] = list(self.center.woken), []
        self.center.downlink.wake(woken)
        self.center.downlink.take([])
        self._keep(self.center.link.said())

    # --- what follows ---

    def _items(self) -> list[ItemObserved]:
        return [
            ItemObserved(kind=item.kind, id=item.id, revision=item.revision, state="Running")
            for item in self.store.items()
        ]

    def _hello(self, fate: str, challenge: str = "") -> None:
        hello = self.voice.hello(
            desired=self.store.known(),
            fence=self.store.fence(),
            observed=digest_of(self._items()),
            challenge=challenge,
        )
        self._say("hello", hello, fate)

    def _say(self, channel: UpChannel, message: Up, fate: str) -> None:
        for _ in range({"lost": 0, "pass": 1, "twice": 2}[fate]):
            self._keep(self.center.hear("w1", channel, message))

    def _keep(self, said: list[Down]) -> None:
        self.coming = [*self.coming, *said][-LATE:]

    def _hear(self, message: Down) -> None:
        if message.session != self.voice.session:
            return
        match message:
            case Welcome():
                self.welcomed = True
                self.store.raise_fence(message.fence)
                self.voice = replace(self.voice, fence=message.fence)
            case Deny():
                self.welcomed = False
                self._hello("pass", message.challenge)
            case Ask():
                self.tells("pass")
            case Desired() | Delta():
                with suppress(DesiredError):  # it keeps what it has: that is what is proven
                    self.store.take(message)
            case _:
                pass

    def _wanted(self) -> Known:
        with self.center.database.reading() as connection:
            return dispatch.known(connection, "w1")

    def _is_well(self) -> bool:
        with self.center.database.reading() as connection:
            held = presence.of_worker(connection, "w1")
            whole = dispatch.whole(connection, "w1", self.voice.session)
        assert held is not None
        items = [item for part in whole for item in part.items]
        return (
            self.store.known() == self._wanted()
            and sorted(map(_plain, self.store.items())) == sorted(map(_plain, items))
            and held.observed_digest == digest_of(self._items())
        )

    def teardown(self) -> None:
        """On a good network it ends well, from wherever it was."""
        try:
            self.connects("pass")
            for _ in range(TURNS):
                self.pushes()
                while self.coming:
                    self.delivers(0, "pass")
                self.beats("pass")
                while self.coming:
                    self.delivers(0, "pass")
                if self._is_well():
                    return
            raise AssertionError(f"wanted {self._wanted()}, the worker has {self.store.known()}")
        finally:
            self.store.close()
            self._parts.close()


def _plain(item: Item) -> tuple[str, str, int, bytes]:
    return item.kind, item.id, item.revision, bytes(item.body)


_SETTINGS = settings(
    stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_conversations_end_well() -> None:
    """I5: after any sequence of loss, doubling, reordering and restart, both digests are equal."""
    run_state_machine_as_test(
        Conversation, settings=settings(_SETTINGS, max_examples=8, derandomize=True)
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_conversations_end_well() -> None:
    """I5: the same, with others each time."""
    run_state_machine_as_test(
        Conversation, settings=settings(_SETTINGS, max_examples=300, stateful_step_count=50)
    )
