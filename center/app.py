"""Composition: the web application, and the parts behind it.

Here: what is made, in which order it starts and ends. Not here: what the parts do, the process
around them (serving).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse

from center import auth, db, presence
from center.api import (
    calls,
    cameras,
    errors,
    events,
    logins,
    metrics,
    models,
    notifications,
    stations,
    tasks,
    webhooks,
    workers,
)
from center.api.doors import BodyLimit, Reader, bearer
from center.api.shapes import REFUSALS, Sentence
from center.broker import EmbeddedBroker
from center.calls import Calls
from center.clock import Clock
from center.config import ServeConfig
from center.console import app as console
from center.credit import Credit
from center.desk import Desk
from center.downlink import Downlink, Terms
from center.ingest import Ingest
from center.links import Links
from center.live import Bell
from center.metrics import Metrics
from center.notifier import Notifier
from wire import topics
from wire.link import Broker, Down, LinkEvent, Received, Up

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Center:
    """A running center, apart from its web server."""

    app: FastAPI
    desk: Desk
    broker_url: str
    """Of the first broker, without credentials."""


@contextmanager
def running(config: ServeConfig, clock: Clock) -> Iterator[Center]:
    """Open the database, bring its tables up to date, connect to the broker; end it all in order.

    Raises one of `db.UNAVAILABLE`; ValueError if the database cannot hold every text; OSError or
    ValueError if the embedded broker cannot listen.
    """
    with ExitStack() as parts:
        database = db.open_database(config.data, config.database_url)
        parts.callback(database.close)
        db.migrate(database)
        ended: list[tuple[str, str]] = []
        if config.database_url is None:  # one center alone: no other has sessions of its own
            with database.transaction() as connection:
                ended = presence.end_sessions(connection)
        brokers = config.brokers or [_embedded_broker(config, parts)]
        counters, bell = Metrics(), Bell()

        def route(event: LinkEvent) -> None:
            match event:
                case Received() if _channel(event.topic).startswith("ev/"):
                    ingest.offer(event)
                case Received() if _channel(event.topic) == "rsp":
                    asking.offer(event)
                case Received():
                    downlink.offer(event)
                case Up():
                    downlink.connected()
                case Down():
                    pass  # who was told nothing says hello again

        # Few centers, many stations: a center may come back at once, and holds many unacknowledged.
        link = Links(
            brokers,
            "center",
            [topics.ALL_UP],
            route,
            backoff_s=(0.5, 5.0),
            receive_window=200,
        )
        asking = Calls(link, clock, counters)
        credit = Credit(clock, metrics=counters)
        ingest = Ingest(database, link, clock, bell, counters, credit)
        terms = Terms(
            heartbeat_s=config.heartbeat_s, window=config.window, brokers=config.announce_broker
        )
        downlink = Downlink(database, link, clock, terms, counters, credit=credit, ended=ended)
        notifier = Notifier(database, clock, counters, config.page_within)
        parts.callback(link.stop, 1.0)
        for part in (ingest, downlink, notifier):
            part.start()
            parts.callback(part.stop, 1.0)
        link.start()
        parts.callback(bell.close)
        desk = Desk(
            database=database,
            clock=clock,
            heartbeat_s=config.heartbeat_s,
            wake=downlink.wake,
            bell=bell,
            throttle=auth.Throttle(clock),
            metrics=counters,
            waiting=lambda: {"ingest": ingest.waiting, "downlink": downlink.waiting},
            strangers=downlink.strangers,
            link_stats=link.stats,
            calls=asking,
            model_bytes=config.max_model_mb * 2**20,
        )
        app = build(desk)
        console.mount(app, desk)
        yield Center(app, desk, str(replace(brokers[0], username=None, password=None)))


def build(desk: Desk) -> FastAPI:
    """The web application over a desk. The console is mounted on what this returns."""
    app = FastAPI(title="Forecourt", version="1", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.desk = desk
    app.add_middleware(BodyLimit)
    errors.install(app)
    nouns = APIRouter(prefix=API, dependencies=[Depends(bearer)], responses=REFUSALS)
    for noun in (
        stations, workers, calls, cameras, tasks, models, events, notifications, webhooks, logins,
    ):  # fmt: skip
        nouns.include_router(noun.router)
    app.include_router(nouns)
    app.include_router(calls.pictures, prefix=API, responses=REFUSALS)
    app.include_router(models.files, prefix=API, responses=REFUSALS)
    app.include_router(metrics.router, responses={401: {"model": Sentence}})

    @app.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        """The process answers; it says nothing of the broker or of workers."""
        return {"status": "ok"}

    @app.get(f"{API}/openapi.json", include_in_schema=False)
    def openapi(_reader: Reader) -> JSONResponse:
        return JSONResponse(app.openapi())

    return app


def _embedded_broker(config: ServeConfig, parts: ExitStack) -> Broker:
    assert config.embedded_broker is not None, "config.load makes sure of one of the two"
    host = config.embedded_broker.host
    embedded = EmbeddedBroker()
    port = embedded.start(host, config.embedded_broker.port)
    parts.callback(embedded.stop)
    return Broker(host=host, port=port)


def _channel(topic: str) -> str:
    """On what a worker speaks; '' for what is not ours, which the downlink counts and logs."""
    try:
        parsed = topics.parse(topic)
    except ValueError:
        return ""
    return parsed.channel if isinstance(parsed, topics.UpTopic) else ""
