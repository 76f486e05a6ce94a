"""A center that keeps resources in a dictionary: what the command needs to see, and no more.

Belongs here: answers shaped like the REST API's, and faults on demand. Does not belong here:
assertions (the tests) and what a real center decides.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from wire import specs

TOKEN = "fct-secret-of-the-tests"


class FakeCenter:
    """Its state, for tests to look at and to change while it serves."""

    def __init__(self) -> None:
        self.stored: dict[str, specs.Resource] = {}
        self.events: list[dict[str, Any]] = []
        self.strangers: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.posted: list[Any] = []
        self.resumed_from: list[str | None] = []
        self.break_stream_after = 1_000_000
        self.sentence: tuple[int, object] | None = None
        self.url = ""
        self._news = threading.Condition()

    def add_event(self, **fields: Any) -> None:
        """Store an event and wake the streams."""
        with self._news:
            event = {
                "id": len(self.events) + 1, "t_ms": 1_700_000_000_000, "kind": "presence",
                "severity": "warning", "station": "s1", "camera": "yard", "rule": "overstay",
                "phase": "start", "label": "car", "zone": "pump", **fields,
            }  # fmt: skip
            self.events.append(event)
            self._news.notify_all()

    def wait_for_event_after(self, last: int) -> list[dict[str, Any]]:
        """Events with a higher id; comes back empty after a moment without any."""
        with self._news:
            self._news.wait_for(lambda: len(self.events) > last, timeout=0.2)
            return self.events[last:]

    def put(self, path: str, document: Any, dry_run: bool) -> tuple[int, Any]:
        """As PUT of the API."""
        resource = specs.parse(document)
        problem = self._unknown(resource)
        if problem:
            loc, message = problem
            return 422, {"detail": [{"loc": ["body", *loc], "msg": message, "type": "value"}]}
        old = self.stored.get(path)
        if isinstance(resource, specs.Camera):
            kept = old if isinstance(old, specs.Camera) else None
            resource = specs.with_kept_passwords(resource, kept)
        result = "created" if old is None else "unchanged" if old == resource else "updated"
        if not dry_run:
            self.stored[path] = resource
        return 200, {
            "result": result, "dry_run": dry_run, "revision": None,
            "before": specs.redacted(old) if old else None, "after": specs.redacted(resource),
        }  # fmt: skip

    def _unknown(self, resource: specs.Resource) -> tuple[list[str], str] | None:
        if isinstance(resource, specs.Station):
            return None
        station = resource.metadata.station
        if f"/stations/{station}" not in self.stored:
            return ["metadata", "station"], f"no station {station!r}"
        if isinstance(resource, specs.Task):
            if f"/stations/{station}/cameras/{resource.spec.camera}" not in self.stored:
                return ["spec", "camera"], f"no camera {resource.spec.camera!r}"
            if resource.spec.model.name == "refused":
                return ["spec", "model", "name"], "no such model"
        return None

    def delete(self, path: str, dry_run: bool) -> tuple[int, Any]:
        """As DELETE of the API."""
        if path not in self.stored:
            return 404, {"detail": f"no {path}"}
        station = path.removeprefix("/stations/")
        needing = [
            key for key, each in self.stored.items()
            if key != path and "/" not in station
            and getattr(each.metadata, "station", None) == station
        ]  # fmt: skip
        if needing:
            return 409, {"detail": f"{path} is needed by {', '.join(needing)}"}
        if not dry_run:
            del self.stored[path]
        return 200, {"result": "deleted", "dry_run": dry_run}

    def replace(self, path: str) -> tuple[int, Any]:
        """As POST to a worker's `replace` of the API."""
        worker = path.removesuffix("/replace")
        return (200, self._view(worker)) if worker in self.stored else self.get(worker, {})

    def get(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        """As GET of the API, for places, lists and events."""
        if path in self.stored:
            return 200, self._view(path)
        nouns = {"/stations": "Station", "/workers": "Worker", "/cameras": "Camera",
                 "/tasks": "Task"}  # fmt: skip
        if path in nouns:
            station = query.get("station")
            found = [
                self._view(key) for key, each in sorted(self.stored.items())
                if each.kind == nouns[path]
                and station in (None, getattr(each.metadata, "station", None))
            ]  # fmt: skip
            strangers = {"strangers": self.strangers} if path == "/workers" else {}
            return 200, {"items": found, **strangers}
        if path == "/events":
            return 200, self._page(query)
        return 404, {"detail": f"no {path}"}

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        limit, newest_first = int(query.get("limit", 100)), query.get("order") == "desc"
        after, before = int(query.get("after", 0)), int(query.get("before", 1 << 53))
        found = [
            event for event in self.events
            if after < event["id"] < before
            and event["t_ms"] >= int(query.get("since_ms", 0))
            and query.get("severity") in (None, event["severity"])
            and query.get("station") in (None, event["station"])
        ]  # fmt: skip
        found = found[::-1] if newest_first else found
        more = len(found) > limit
        return {"items": found[:limit], "next": found[limit - 1]["id"] if more else None}

    def _view(self, path: str) -> dict[str, Any]:
        resource = self.stored[path]
        status: dict[str, dict[str, Any]] = {
            "Station": {"state": "Autonomous", "last_heard_ms": None, "workers": 1, "cameras": 1,
                        "tasks": 1, "open_alarms": 2},
            "Worker": {"state": "Online", "last_heard_ms": None, "desired_revision": 12,
                       "observed_revision": 11, "pending": {"alarm": 1, "bulk": 4},
                       "denied": "", "streams": []},
            "Camera": {},
            "Task": {"worker": "w1", "desired_revision": 12, "observed_revision": 11,
                     "state": "Degraded", "reason": "no GPU \x1b[31mred"},
        }  # fmt: skip
        document = specs.document(resource)
        return {**specs.redacted(resource), "spec": specs.redacted(resource).get("spec", {}),
                "metadata": document["metadata"], "status": status[resource.kind]}  # fmt: skip


@contextmanager
def serving() -> Iterator[FakeCenter]:
    """A fake center on a free port of this machine."""
    center = FakeCenter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(center))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    center.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield center
    finally:
        server.shutdown()
        server.server_close()


def _handler(center: FakeCenter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Tests read `requests` instead."""

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix("/api/v1")
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            center.requests.append((self.command, path))
            if self.command == "POST":
                center.posted.append(json.loads(body or b"null"))
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                self._write(401, {"detail": "a token is needed"})
            elif center.sentence is not None:
                self._write(*center.sentence)
            elif path == "/events/stream":
                self._stream()
            elif self.command == "PUT":
                self._write(*center.put(path, json.loads(body), "dry_run" in query))
            elif self.command == "DELETE":
                self._write(*center.delete(path, "dry_run" in query))
            elif self.command == "POST" and path.endswith("/replace"):
                self._write(*center.replace(path))
            else:
                self._write(*center.get(path, query))

        def _write(self, status: int, answer: object) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            last_id = self.headers.get("last-event-id")
            center.resumed_from.append(last_id)
            last, sent = int(last_id or 0), 0
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b": beat\n\n")
            while sent < center.break_stream_after:
                for event in center.wait_for_event_after(last)[: center.break_stream_after - sent]:
                    text = f"id: {event['id']}\nevent: event\ndata: {json.dumps(event)}\n\n"
                    self.wfile.write(text.encode())
                    last, sent = event["id"], sent + 1

    return Handler
