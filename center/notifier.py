"""The notifier: the loop that tells webhooks of alarms.

Here: the thread, the posts, and how many there may be at a time. Not here: which alarms are told
(notify), what became of a post (deliveries), who is told (webhooks).

Only the loop's thread touches the database; each post has a short-lived thread of its own, at most
`PER_WEBHOOK` for each of `webhooks.MAX_WEBHOOKS`, so that a slow webhook delays no other. The loop
looks for itself instead of being told: another replica may have stored the alarm.
"""

import logging
import random
import threading
from collections import Counter, deque
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from center import db, deliveries, notify, webhooks
from center.clock import Clock
from center.db import Database
from center.deliveries import Claimed, Outcome
from center.logs import Seldom
from center.metrics import Metrics
from center.webhooks import Webhook

PER_WEBHOOK = 2
POLL_S = 0.5
TIMEOUT_S = 10.0
PRUNE_EVERY_S = 3600.0
MAX_ANSWER_BYTES = 1024

_RETRY_S = 1.0

_log = logging.getLogger("forecourt.notifier")


class Notifier(threading.Thread):
    """Decides, posts and prunes until `stop`; `step` is one round of it."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        metrics: Metrics,
        page_within_s: float,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(name="notifier", daemon=True)
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._page_within_ms = round(page_within_s * 1000)
        self._rng = rng or random.Random()
        self._seldom = Seldom(_log, clock)
        self._client = _client()
        self._posting: set[tuple[int, str]] = set()
        self._outcomes: deque[Outcome] = deque()
        self._pruned_s = float("-inf")
        self._woken = threading.Event()
        self._stopping = threading.Event()

    @property
    def posting(self) -> int:
        """How many posts have begun whose outcome is not yet written down."""
        return len(self._posting)

    def step(self) -> bool:
        """One round; whether there is more to do at once.

        Raises one of `db.UNAVAILABLE`; what came of posts is then written down by a later round.
        """
        self._settle()
        more = self._decide()
        self._begin()
        return self._prune() or more

    def run(self) -> None:
        """The thread: one round after another, until `stop`."""
        while not self._stopping.is_set():
            self._woken.clear()
            wait_s = POLL_S
            try:
                if self.step():
                    wait_s = 0.0
            except db.UNAVAILABLE as error:
                self._metrics.count("database_retries_total")
                cause = str(error).partition("\n")[0]
                self._seldom.warn("database", f"the database cannot do it now: {cause}")
                wait_s = _RETRY_S
            except Exception:  # a fault of ours must not end all telling
                _log.exception("a round of the notifier failed; it is tried again")
                wait_s = _RETRY_S
            self._woken.wait(wait_s)

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread. A post that is not back yet is due again when its lease is over."""
        self._stopping.set()
        self._woken.set()
        if self.is_alive():
            self.join(timeout_s)
        self._client.close()

    def _decide(self) -> bool:
        now_ms = self._clock.now_ms()
        with self._database.reading() as connection:
            decided = notify.decide_some(connection, now_ms, self._page_within_ms)
        if not any(decided.values()):
            return False
        with self._database.transaction() as connection:
            notify.settle(connection, decided, now_ms)
        self._metrics.count("notifications_late_total", len(decided["late"]))
        return bool(decided["page"])  # what is late has time: the database has more urgent work

    def _begin(self) -> None:
        """Post what is due, as far as each webhook has room."""
        now_ms = self._clock.now_ms()
        with self._database.reading() as connection:
            due = deliveries.due(connection, now_ms)
            told = [webhook for webhook in webhooks.every(connection) if webhook.name in due]
        in_flight = Counter(name for _, name in self._posting)
        told = [webhook for webhook in told if in_flight[webhook.name] < PER_WEBHOOK]
        if not told:
            return
        with self._database.transaction() as connection:
            posts = [
                (webhook, claimed)
                for webhook in told
                for claimed in deliveries.claim(
                    connection,
                    webhook.name,
                    PER_WEBHOOK - in_flight[webhook.name],
                    {number for number, name in self._posting if name == webhook.name},
                    now_ms,
                    self._page_within_ms,
                )
            ]
        for webhook, claimed in posts:
            name = f"webhook-{webhook.name}"
            threading.Thread(
                target=self._try, args=(webhook, claimed), name=name, daemon=True
            ).start()
            self._posting.add(claimed.key)

    def _try(self, webhook: Webhook, claimed: Claimed) -> None:
        """A thread: one post, and what came of it."""
        outcome = post(self._client, webhook, claimed, self._clock)
        self._outcomes.append(outcome)
        self._woken.set()

    def _settle(self) -> None:
        """Write down what came of posts; then they are no longer ours."""
        outcomes = list(self._outcomes)
        if not outcomes:
            return
        with self._database.transaction() as connection:
            counts = deliveries.settle(connection, outcomes, self._clock.now_ms(), self._rng)
        for outcome in outcomes:
            self._outcomes.popleft()
            self._posting.discard(outcome.claimed.key)
            if outcome.error:
                name = outcome.claimed.webhook
                self._seldom.warn(name, f"webhook {name} did not take an alarm: {outcome.error}")
        for came_to, number in counts.items():
            self._metrics.count(f"notifications_{came_to}_total", number)

    def _prune(self) -> bool:
        if self._clock.elapsed_s() - self._pruned_s < PRUNE_EVERY_S:
            return False
        now_ms = self._clock.now_ms()
        with self._database.reading() as connection:
            some = notify.prunable(connection, now_ms)
        if some:
            with self._database.transaction() as connection:
                notify.prune(connection, now_ms)
        else:
            self._pruned_s = self._clock.elapsed_s()
        return some


def post(client: httpx.Client, webhook: Webhook, claimed: Claimed, clock: Clock) -> Outcome:
    """Post an alarm to a webhook, once. What the answer says beyond its status does not matter."""
    if claimed.flaw:
        return Outcome(claimed, claimed.flaw, for_good=True)
    timestamp = str(clock.now_ms() // 1000)
    headers = {
        "Content-Type": "application/json",
        "X-Forecourt-Delivery": claimed.name,
        "X-Forecourt-Timestamp": timestamp,
        "X-Forecourt-Signature": webhooks.signature(webhook.secret, timestamp, claimed.body),
    }
    try:
        with client.stream("POST", webhook.url, content=claimed.body, headers=headers) as answer:
            status = answer.status_code
            _drain(answer, clock)
    except httpx.TimeoutException:
        return Outcome(claimed, f"no answer within {TIMEOUT_S:g} s")
    except httpx.ConnectError as error:
        return Outcome(claimed, f"cannot connect: {_line(error)}")
    except (
        Exception
    ) as error:  # whatever it is, the delivery needs an outcome; its text may hold the URL
        return Outcome(claimed, f"the connection broke: {type(error).__name__}")
    if 200 <= status < 300:
        return Outcome(claimed)
    if 300 <= status < 400:
        return Outcome(claimed, f"it answered {status}; redirects are not followed")
    return Outcome(claimed, f"it answered {status}", for_good=status == httpx.codes.GONE)


def _drain(answer: httpx.Response, clock: Clock) -> None:
    """Read a short answer, so that its sender sees an orderly end; a long one is cut off."""
    seen_bytes, until_s = 0, clock.elapsed_s() + TIMEOUT_S
    try:
        for chunk in answer.iter_raw():
            seen_bytes += len(chunk)
            if seen_bytes > MAX_ANSWER_BYTES or clock.elapsed_s() > until_s:
                return
    except httpx.HTTPError:
        return  # the status has come, and nothing else counts


def _client() -> httpx.Client:
    # The HTTP client logs URLs and headers, and those may hold a token.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx.Client(
        timeout=TIMEOUT_S,
        follow_redirects=False,
        headers={"User-Agent": "forecourt"},
        # A connection for each post: a bad answer to one spoils no other.
        limits=httpx.Limits(max_keepalive_connections=0),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0].replace("\0", "?")
