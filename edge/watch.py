"""How much of a stream is decoded: all while something happens, what the rules need while not.

Here: being awake and being idle, and the way from one to the other. Not here: what the rules need
(video/demand.py), what has changed (vision/motion.py), decoding (video/decode.py), looking at
pictures (analysis.py), threads, the clock.

    for seen in watch.pictures(packets, decoder):
        infer and judge seen.frame, or carry what was seen if seen.quiet; then watch.looked(...)

A stream is *awake* from its start, until nothing has moved for `HOLD_S`. Then it is *idle*: decoded
as its plan says (`demand.idle`), mostly its key frames, and not inferred: what was seen there last
is carried. When an idle picture shows a change, what was left out before it is decoded from the
ring, and looked at in its order; so being idle shifts no time. The table of it:

    awake --nothing moved for HOLD_S, and the plan is known--> idle
    idle  --a picture differs--------------------> awake, from the picture before it
    idle  --no picture for longer than promised--> idle, and what was left out is decoded
    idle  --a key frame gives no picture---------> awake, from the picture before it
    idle  --packets are suddenly large-----------> idle, and a picture amid the GOP is looked at
    idle  --a check finds other objects----------> awake

It rests only when the model has seen the picture as it is: where looks fail or are late, it stays
awake, and its coverage tells.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.video import demand as demands
from edge.video.decode import Decoder, Frame
from edge.video.demand import Demand, Idle, Traits
from edge.video.gops import Gops
from edge.video.ring import Ring
from edge.video.sizes import Sizes
from edge.video.source import Packet
from edge.vision.area import area_of, joined
from edge.vision.motion import Motion
from wire import specs

HOLD_S = 2.0
"""Nothing has moved for so long: then what is there is known, and need not be looked at again."""
WARM_UP_S = 4.0
"""A stream is awake for so long at first: its light, noise and GOPs are learned."""
CHECK_S = 30.0
"""An idle stream is inferred this often nevertheless: something may have crept in unnoticed."""
OVERDUE_S = 0.1
LONGEST_WAIT_S = 10.0
"""If no key packet comes for so long, the GOP is decoded from the last one, whatever that costs."""
LARGE_GOPS = 8
"""If one of so many GOPs was too large for the ring, none can be counted on."""

Boxes = npt.NDArray[np.float32]
NOTHING = np.empty((0, 4), np.float32)
"""No boxes."""


class Due(Protocol):
    """What a watch must know of a task at work: see edge.analysis.Analysis."""

    def due(self, pts_s: float, *, follows: bool = True) -> bool: ...
    def expects(self, pts_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that is to be looked at."""

    frame: Frame
    due: tuple[Due, ...]
    """For whom; nobody, if somebody just asked for a picture."""
    quiet: bool = False
    """Nothing has changed: carry what was seen last."""
    check: bool = False
    """Nothing has changed, but have it inferred: `looked` is told what the detector finds."""
    since_s: float = 0.0
    """Stream time since the picture before it that was to be looked at."""
    late: bool = False
    """It was left out at first, and decoded from the ring: its turn is now, or never."""
    level: str = "FULL"
    """How much of the stream is decoded: KEY or FULL."""


def motion_of(tasks: Iterable[specs.Task]) -> Motion:
    """What may wake a stream: what matters to any of its tasks, and is masked by all of them.

    So no task's mask blinds another.
    """
    watching = list(tasks)
    masks = [set(task.spec.masks.values()) for task in watching]
    shared = set.intersection(*masks) if masks else set()
    return Motion(masks=sorted(shared), areas=joined(area_of(task) for task in watching))


class Watch:
    """One stream at work. `pictures` is for one thread; what others tell may come from any.

    `may_catch_up(seconds)` is asked whether so much of the stream may be decoded after the fact;
    `inspect` gets every picture that is decoded in its turn, whoever it is for, and says whether
    pictures may be believed again that could not be before.
    Without `analyses` nothing is decoded, unless somebody asks.
    """

    def __init__(
        self,
        demand: Demand,
        motion: Motion,
        may_catch_up: Callable[[float], bool] = lambda _: True,
        inspect: Callable[[Frame], bool] = lambda _: False,
    ) -> None:
        self.awake = True
        self.keys_only = False
        """The budget is short: key frames are looked at, and nothing else is decoded."""
        self.now_s = 0.0
        """The stream's time, decoded or not."""
        self.caught_up_s = 0.0
        """Stream time that was decoded after the fact."""
        self.given_up_s = 0.0
        """Stream time that was left out for good."""
        self.idle_s = 0.0
        self.analyses: tuple[Due, ...] = ()
        self._demand = demand
        self._motion = motion
        self._may_catch_up = may_catch_up
        self._inspect = inspect
        self._ring = Ring()
        self._gops = Gops()
        self._sizes = Sizes()
        self._results: deque[tuple[Boxes, float, bool, bool]] = deque(maxlen=16)
        self._asked = False
        self._newest: Frame | None = None
        """For whoever asked; not kept otherwise, since a picture takes megabytes."""
        self._began_s: float | None = None
        self._moved_s = 0.0
        self._looked_s = -1.0
        self._last_s = -1.0
        self._motion_s = -1.0
        self._checked_s = 0.0
        self._key_s = 0.0
        self._in_turn = False
        """Whether the decoder has all packets of this GOP up to now."""
        self._to_the_end = False
        """Of this GOP so much was decoded that the rest is too: it would be decoded again."""
        self._waits = False
        """What was left out stays so: the next key packet is a new beginning."""
        self._waits_since_s = math.inf
        self._accounted_s = 0.0
        """Stream time up to which `given_up_s` tells what was not seen."""
        self._shed = 0
        self._large_gops: deque[bool] = deque([False], maxlen=LARGE_GOPS)
        self._restarted = False
        self._catch_ups = 0
        self._passed_over = False
        """The last key packet was not wanted, and not decoded."""
        self._plan = demands.idle(demand, self._gops.traits)

    # --- what others tell ---

    def change(self, demand: Demand, motion: Motion | None = None) -> None:
        """Other tasks: awake again, so that they see what is there."""
        self._demand = demand
        if motion is not None:
            self._motion = motion
        self._results.append((NOTHING, 0.0, True, False))

    def looked(self, boxes: Boxes, pts_s: float, *, restless: bool, differs: bool = False) -> None:
        """What an inference found: N × 4 boxes, 0..1, of anything at all. From any thread.

        `restless`: an object moves. `differs`: a check found others than those that were carried.
        """
        self._results.append((boxes, pts_s, restless, differs))

    def _see_again(self) -> None:
        """Nobody has looked for a while: what was seen before is not to be carried on."""
        self.looked(NOTHING, 0.0, restless=True)

    def check_again(self) -> None:
        """A check was not made. From any thread."""
        self._checked_s = -CHECK_S

    def ask(self) -> None:
        """Somebody wants the next picture, now. From any thread."""
        self._asked = True

    @property
    def level(self) -> str:
        """How much of the stream is decoded just now: KEY or FULL."""
        if not self.analyses:
            return "OFF"
        if self.keys_only and self._gops.traits.keys_alone:
            return "KEY"
        return "FULL" if self.awake else self._plan.level

    @property
    def why(self) -> str:
        """Why it is decoded as it is while nothing changes."""
        return self._plan.why

    @property
    def traits(self) -> Traits:
        """What was learned of the stream."""
        return self._gops.traits

    @property
    def ring_bytes(self) -> int:
        """What the ring holds."""
        return self._ring.size_bytes

    # --- a packet's way ---

    def pictures(self, packets: Iterable[Packet], decoder: Decoder) -> Iterator[Seen]:
        """The pictures of one connection that are to be looked at, in the order of their times."""
        self._decoder = decoder
        self._start_over()
        for packet in packets:
            decoder.note(packet)
            if packet.data is None:
                yield from self._end_of_pass(packet)
                continue
            self.now_s = max(self.now_s, packet.pts_s)
            self._gops.note(packet)
            self._sizes.note(packet.size_bytes, packet.is_key, packet.pts_s)
            self._ring.add(packet)
            self._take_in_results(packet.pts_s)
            if packet.is_key:
                self._begin_gop(packet)
            if not self.analyses and not self._asked:
                self._in_turn, self._last_s = False, packet.pts_s
            elif self._waits and packet.pts_s - self._waits_since_s <= LONGEST_WAIT_S:
                self._give_up(packet.pts_s)
                continue
            elif self._waits:
                yield from self._catch_up(packet.pts_s)
            elif self.keys_only and self._gops.traits.keys_alone:
                yield from self._only_key(packet)
            else:
                yield from self._awake(packet) if self.awake else self._idle(packet)
            if self._newest is not None:
                self._asked, frame, self._newest = False, self._newest, None
                yield Seen(frame, ())

    def _begin_gop(self, packet: Packet) -> None:
        """A key packet has come."""
        if self._gops.wants_trial and self.analyses:
            self._gops.tried(self._decoder.stands_alone(packet))
        self._key_s = pts_s = packet.pts_s
        self._to_the_end = False
        self._large_gops.append(self._ring.shed > self._shed)
        self._shed = self._ring.shed
        if self._waits:
            self._give_up(pts_s)
        self._waits, self._waits_since_s = False, math.inf

    def _give_up(self, until_s: float) -> None:
        """What was not seen up to that time never will be."""
        self.given_up_s += max(0.0, until_s - max(self._last_s, self._accounted_s))
        self._accounted_s = until_s

    def _start_over(self) -> None:
        """Another connection: nothing is known of what was missed, so look at it all."""
        self._ring, self._shed = Ring(), 0
        self._waits = self._to_the_end = self._passed_over = False
        self._waits_since_s = math.inf
        self._gops = self._gops.again()
        self._in_turn = True
        self._began_s = None
        self.awake = True

    def _end_of_pass(self, packet: Packet) -> Iterator[Seen]:
        """A recording has ended, and may begin again with another decoder."""
        if self.analyses and not (self._in_turn or self._waits or self.keys_only):
            yield from self._catch_up(packet.pts_s)
        yield from self._through(packet)
        self._in_turn, self._to_the_end = self.awake, False
        # If packets were left out before it, whoever did so counts them.
        self._accounted_s = max(self._accounted_s, packet.pts_s)
        self._ring.clear()

    def _take_in_results(self, now_s: float) -> None:
        while self._results:
            boxes, pts_s, restless, differs = self._results.popleft()
            if pts_s:
                self._motion.explained(boxes, pts_s)
                self._looked_s = max(self._looked_s, pts_s)
            if restless or differs:
                self._moved_s = max(self._moved_s, now_s)
                self.awake = True

    def _awake(self, packet: Packet) -> Iterator[Seen]:
        if self._began_s is None:
            self._began_s = self._moved_s = packet.pts_s
        if self._in_turn:
            yield from self._through(packet)
        else:
            yield from self._catch_up(packet.pts_s)
        if self._may_rest(packet.pts_s):
            self._rest(packet.pts_s)

    def _may_rest(self, now_s: float) -> bool:
        """Whether nothing moves any more, and the model has seen the picture as it is now."""
        began_s = now_s if self._began_s is None else self._began_s
        return (
            not self._demand.full
            and self._gops.settled
            and self._looked_s - self._moved_s > HOLD_S
            and now_s - self._moved_s > HOLD_S
            and now_s - began_s > WARM_UP_S
        )

    def _rest(self, now_s: float) -> None:
        """From awake to idle."""
        self._plan = self._planned()
        if self._plan.level == "KEY":
            # What the decoder still holds stays in the ring: amid a GOP, drained pictures come
            # in another order, and some would be passed over for good.
            self._decoder.leave_out()
            self._in_turn = False
        self.awake = False
        self._checked_s = now_s

    def _planned(self) -> Idle:
        if any(self._large_gops) or self._ring.shed > self._shed:
            return Idle("FULL", 0.0, 0.0, "its GOPs are too large to be kept")
        return demands.idle(self._demand, self._gops.traits)

    def _wake(self, now_s: float) -> None:
        self.awake = True
        self._moved_s = now_s

    def _idle(self, packet: Packet) -> Iterator[Seen]:
        """Of an idle stream: what the plan asks for."""
        if packet.is_key:
            self._plan = self._planned()
        full = self._plan.level == "FULL" or self._to_the_end
        promised_s = max(self._demand.min_visit_s, self._plan.key_every_s) + OVERDUE_S
        overdue = packet.pts_s - self._last_s > promised_s and not packet.is_key
        if not self._in_turn and (full or overdue or self._asked):
            self._to_the_end = overdue or self._asked
            yield from self._catch_up(packet.pts_s)
        elif not self._in_turn and self._suggested(packet.pts_s):
            yield from self._peek(packet.pts_s)
        elif full or self._begins_gop(packet):
            if packet.is_key and not self._in_turn:
                self._decoder.leave_out()
            self._in_turn = True
            yield from self._through(packet)
        else:
            yield from self._leave_out(packet)

    def _suggested(self, now_s: float) -> bool:
        """Whether packets are so large that a look may be worth it. It may be put off."""
        return self._sizes.suggests and self._may_catch_up(now_s - self._last_s)

    def _peek(self, now_s: float) -> Iterator[Seen]:
        """Glance at the newest picture amid a GOP, as at a key frame."""
        self._decoder.again(self._last_s)
        newest = None
        for packet in self._ring.since(now_s) or ():
            for frame in self._decoder.feed(packet):
                newest = frame
        for frame in self._decoder.drain():
            newest = frame
        self._decoder.leave_out()
        if newest is not None:
            yield from self._glance(replace(newest, follows=False), late=False)

    def _begins_gop(self, packet: Packet) -> bool:
        """Whether a packet is of the part of a GOP that the plan wants, its last frame included."""
        if packet.is_key:
            return self._plan.then_s > 0
        return self._in_turn and self._last_s - self._key_s < self._plan.then_s

    def _leave_out(self, packet: Packet) -> Iterator[Seen]:
        if self._in_turn:
            self._in_turn = False
            self._decoder.leave_out()
        if not packet.is_key:
            return
        next_s = packet.pts_s + (self._gops.traits.gop_s or 0.0)
        if next_s - self._last_s <= self._plan.key_every_s + OVERDUE_S / 2:
            return
        picture = self._decoder.alone(packet)
        if picture is not None:
            yield from self._picture(picture, late=False)
        else:
            self._gops.distrust()
            self._wake(packet.pts_s)
            yield from self._catch_up(packet.pts_s)

    def _only_key(self, packet: Packet) -> Iterator[Seen]:
        self._in_turn = False
        if not self.awake:  # longer than promised without a picture: that was not seen
            unseen_until_s = packet.pts_s - self._demand.min_visit_s - OVERDUE_S
            if unseen_until_s > max(self._last_s, self._accounted_s):
                self._give_up(unseen_until_s)
        if packet.is_key and not (self._gops.intra_only and not self._expected(packet)):
            frame = self._decoder.alone(packet)
            if frame is not None:
                yield from self._picture(frame, late=False)
            if self.awake and self._may_rest(packet.pts_s):
                self._rest(packet.pts_s)

    def _through(self, packet: Packet, *, late: bool = False) -> Iterator[Seen]:
        """Decode a packet in its turn, if any of its pictures may be wanted."""
        if self._passed_over and packet.data is not None and not packet.is_key:
            self._passed_over = False  # it was needed after all: this packet follows on it
            yield from self._catch_up(packet.pts_s, granted=True)
            return
        self._passed_over = (
            self._gops.intra_only
            and packet.data is not None
            and not self._demand.full
            and not self._expected(packet)
        )
        if self._passed_over:
            self._decoder.leave_out()
            return
        self._restarted = False
        for frame in self._decoder.feed(packet):
            yield from self._picture(frame, late=late)
            if self._restarted:  # its other pictures have come with what was caught up
                return

    def _expected(self, packet: Packet) -> bool:
        return any(analysis.expects(packet.pts_s) for analysis in self.analyses)

    def _catch_up(self, now_s: float, *, granted: bool = False) -> Iterator[Seen]:
        """Decode what was left out since the last picture, and go on from there in turn.

        `granted`: whatever the budget says.
        """
        self._restarted = True
        after_s = self._last_s
        packets = self._ring.since(after_s)
        granted = granted or now_s - self._waits_since_s > LONGEST_WAIT_S
        if packets is not None and (granted or self._may_catch_up(now_s - packets[0].pts_s)):
            self.caught_up_s += now_s - after_s
        elif now_s == self._key_s:
            self._give_up(now_s)
            packets, after_s = self._ring.since(now_s), now_s - OVERDUE_S / 20
        else:
            if not self._waits:
                self._waits, self._waits_since_s = True, now_s
            self._in_turn = False
            self._give_up(now_s)
            return
        self._waits, self._waits_since_s = False, math.inf
        self._decoder.again(after_s)
        self._in_turn = True
        self._catch_ups += 1
        this = self._catch_ups
        for packet in packets or ():
            yield from self._through(packet, late=True)
            if self._catch_ups != this:  # another one has come further already
                break
        self._restarted = True

    # --- a picture's way ---

    def _picture(self, frame: Frame, *, late: bool) -> Iterator[Seen]:
        if self._asked:
            self._newest = frame
        if self.analyses and self._inspect(frame):
            self._see_again()
        if not self.awake and not frame.follows and not late:
            yield from self._glance(frame, late=late)
        elif due := self._due(frame):
            yield from self._look(frame, due, late=late)

    def _look(self, frame: Frame, due: tuple[Due, ...], *, late: bool) -> Iterator[Seen]:
        """A picture whose turn it is. An idle stream wakes with it, or stays idle."""
        glanced_at = frame.pts_s <= self._motion_s  # before what led to it was caught up
        if not glanced_at and not self._demand.full:
            self._motion_s = frame.pts_s
            if self._has_moved(frame):
                self._wake(frame.pts_s)
        yield self._seen(frame, due, late)

    def _glance(self, frame: Frame, *, late: bool) -> Iterator[Seen]:
        """A picture of an idle stream before which others were left out."""
        self._motion_s = frame.pts_s
        if self._has_moved(frame):
            self._wake(frame.pts_s)
            if not self.keys_only:
                yield from self._catch_up(frame.pts_s)
                return
        yield self._seen(frame, self._due(frame), late)

    def _has_moved(self, frame: Frame) -> bool:
        moved = self._motion.look(frame.luma(), frame.pts_s).moved
        self._sizes.label(frame.pts_s, moved)
        return moved

    def _due(self, frame: Frame) -> tuple[Due, ...]:
        return tuple(each for each in self.analyses if each.due(frame.pts_s, follows=frame.follows))

    def _seen(self, frame: Frame, due: tuple[Due, ...], late: bool) -> Seen:
        quiet = not self.awake
        seen_s = max(self._last_s, self._accounted_s)
        since_s = max(0.0, frame.pts_s - seen_s) if seen_s >= 0 else 0.0
        if quiet:
            self.idle_s += since_s
        self._last_s = frame.pts_s
        self._ring.forget_before(frame.pts_s)
        check = quiet and frame.pts_s - self._checked_s >= CHECK_S
        if check:  # it is for all, whoever is due
            self._checked_s, due = frame.pts_s, self.analyses
        return Seen(frame, due, quiet and not check, check, since_s, late, self.level)
