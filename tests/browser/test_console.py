"""The console in a real browser, over a real center: who gets in, what appears, what is kept."""

import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Console
from tests.parts.browser import Tab
from tests.parts.models import push
from tests.parts.workers import FakeWorker, Voice, fake_worker
from tests.waiting import wait_for
from wire.events import Event
from wire.messages import ItemObserved, Observed

pytestmark = pytest.mark.browser

COOKIE = "forecourt_session"
NEWS_MS = 5000
MARKUP = '<img src=x onerror="window.hurt=1"></script><b>bold</b>${1+1}`&lt;'
RULES = """\
zones:
  bay: [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]
rules:
- name: somebody
  when: {class: person, in: bay}
  for: 3s
"""
SPEC = {
    "camera": "c1",
    "model": {"name": "nano"},
    "rules": [{"name": "r", "when": {"class": "person"}}],
}


@pytest.fixture
def worker(console: Console, request: pytest.FixtureRequest) -> Iterator[FakeWorker]:
    """A welcomed worker of a station of the test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip(
        "-"
    )
    console.furnish(station=name, worker=f"{name}-w")
    with fake_worker(console.broker_url, Voice(worker=f"{name}-w", instance=name)) as speaking:
        speaking.join()
        yield speaking


def alarm(**changes: object) -> Event:
    words = {
        "kind": "presence",
        "t_ms": time.time_ns() // 1_000_000,
        "camera": "c1",
        "severity": "critical",
        "task": "t1",
        "rule": "person-in-bay",
        "phase": "start",
        "incident": "inc-1",
        "label": "person",
        "zone": "bay",
    }
    return Event(**{**words, **changes})  # type: ignore[arg-type] # each test's own fields


def station_of(worker: FakeWorker) -> str:
    return worker.voice.worker.removesuffix("-w")


def row_of(tab: Tab, incident: str) -> Locator:
    return tab.page.locator(f'[data-incident="{incident}"]')


# --- doors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/console",
        "/console/",
        "/console/tasks/new",
        "/console/tasks/s1/t1",
        "/console/stations/s1",
        "/console/_nicegui_ws/socket.io/?EIO=4&transport=polling",
        "/console/no-such-page",
        "//console/",
        "/console/../console/",
    ],
)
def test_nothing_of_the_console_answers_without_a_session(
    console: Console, stranger: httpx.Client, path: str
) -> None:
    """Without the cookie, or with a wrong one, no page and no socket says anything."""
    console.furnish()
    for headers in ({}, {"Cookie": f"{COOKIE}=fc-session-guess"}):
        answer = stranger.get(console.center.url + path, headers=headers)
        assert answer.status_code in (401, 404)
        assert "Ring road" not in answer.text
        assert "nicegui" not in answer.text.lower()
    asked = stranger.get(console.center.url + path, headers={"Accept": "text/html"})
    assert asked.status_code in (303, 404)
    assert asked.headers.get("location", "/login") == "/login"


def test_static_files_of_the_console_need_a_session(
    console: Console, stranger: httpx.Client
) -> None:
    """Every script and style that the page names is refused without the cookie."""
    page = console.client().get(f"{console.center.url}/console")
    named = set(re.findall(r'"(/console/_nicegui/[^"]+)"', page.text))
    assert len(named) > 5
    for path in named:
        assert stranger.get(console.center.url + path).status_code == 401


def test_a_token_of_the_api_opens_no_page(console: Console) -> None:
    """The API's bearer token is for the API; pages take only the cookie of a login."""
    assert console.center.http.get("/console").status_code == 401


def test_the_live_connection_needs_session_and_origin(console: Console) -> None:
    """The socket opens with the cookie from a page of this host, and in no other case."""
    client = console.client()
    cookie = client.cookies[COOKIE]
    own = console.center.url
    assert _upgrade(own, cookie, origin=own) == 101
    assert _upgrade(own, None, origin=own) == 403
    assert _upgrade(own, "fc-session-guess", origin=own) == 403
    assert _upgrade(own, cookie, origin="http://other.example") == 403
    assert _upgrade(own, cookie, origin=None) == 403


def _upgrade(url: str, cookie: str | None, origin: str | None) -> int:
    """The status that a WebSocket's handshake with the console ends in."""
    host = url.removeprefix("http://")
    name, _, port = host.partition(":")
    lines = [
        "GET /console/_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Origin: {origin}"] if origin else []),
        *([f"Cookie: {COOKIE}={cookie}"] if cookie else []),
    ]
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(connection.recv(64).split()[1])


def test_a_code_logs_in_once(console: Console, stranger: httpx.Client) -> None:
    """A login code opens the console, sets a guarded cookie, and is then used up."""
    url = console.login_url()
    first = stranger.get(url)
    assert (first.status_code, first.headers["location"]) == (303, "/console")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    stranger.cookies.clear()
    again = stranger.get(url)
    assert again.status_code == 401
    assert "set-cookie" not in again.headers


def test_a_person_logs_in_with_a_token_and_out(console: Console) -> None:
    """A wrong token is refused in words; the right one opens the console; logging out ends it."""
    tab = console.open("/logout")
    page = tab.page
    page.get_by_label("Token").fill("fc-api-guess")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not know that token")
    authorization = console.center.http.headers["Authorization"]
    page.get_by_label("Token").fill(authorization.removeprefix("Bearer "))
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Live events")).to_be_visible()
    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    assert httpx.get(f"{console.center.url}/console", cookies=cookies).status_code == 200
    page.get_by_role("link", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert httpx.get(f"{console.center.url}/console", cookies=cookies).status_code == 401


def test_an_open_page_ends_with_its_session(console: Console) -> None:
    """A session that is ended elsewhere takes the live connection of its open page with it."""
    tab = console.open()
    expect(tab.page.get_by_role("heading", name="Live events")).to_be_visible()
    cookies = {cookie["name"]: cookie["value"] for cookie in tab.page.context.cookies()}
    httpx.get(f"{console.center.url}/logout", cookies=cookies)
    expect(tab.page.get_by_label("Token")).to_be_visible(timeout=25_000)


def test_no_secret_is_logged(console: Console) -> None:
    """Logging in, opening a page and its live connection leave no token, code or cookie behind."""
    tab = console.open()
    page = tab.page
    expect(page.get_by_role("heading", name="Live events")).to_be_visible()
    cookies = [cookie["value"] for cookie in page.context.cookies()]
    code = urlsplit(console.login_url()).query.removeprefix("code=")
    page.goto(f"{console.center.url}/login?code={code}")
    token = console.center.http.headers["Authorization"].removeprefix("Bearer ")
    logged = console.center.process.log.read_text()
    assert "DEBUG" in logged
    assert [secret for secret in (*cookies, code, token) if secret in logged] == []


# --- live events -------------------------------------------------------------------------------


def test_an_event_appears_without_a_reload(console: Console, worker: FakeWorker) -> None:
    """An event that a worker sends is on an open page moments after it is stored."""
    tab = console.open()
    expect(tab.page.get_by_role("heading", name="Live events")).to_be_visible()
    worker.say("ev/alarm", worker.voice.batch(1, [alarm(incident="inc-live")], lane="alarm"))
    row = row_of(tab, "inc-live")
    expect(row).to_be_visible(timeout=NEWS_MS)
    expect(row).to_contain_text("critical")
    expect(row).to_contain_text("person-in-bay: person in bay")
    expect(row).to_contain_text(f"{station_of(worker)} · c1")
    expect(row).to_contain_text("started")
    (stored,) = console.center.events(station=station_of(worker))
    assert row.get_attribute("data-event") == str(stored["id"])
    worker.say(
        "ev/alarm",
        worker.voice.batch(
            2, [alarm(incident="inc-live", phase="end", reason="cleared")], lane="alarm"
        ),
    )
    expect(row).to_have_count(2, timeout=NEWS_MS)
    expect(row.first).to_contain_text("ended, cleared")


def test_the_first_html_holds_the_newest_events(console: Console, worker: FakeWorker) -> None:
    """A plain GET of the page, without running a script, shows what was stored before."""
    many = [alarm(incident=f"inc-plain-{number}") for number in range(50)]
    worker.say("ev/alarm", worker.voice.batch(1, many, lane="alarm"))
    wait_for(
        lambda: len(console.center.events(station=station_of(worker))) == 50, 10, "events stored"
    )
    text = console.client().get(f"{console.center.url}/console").text
    assert all(f"inc-plain-{number}" in text for number in range(50))


def test_a_page_holds_a_hundred_events(console: Console, worker: FakeWorker) -> None:
    """However many come, the list keeps the newest hundred, newest first."""
    tab = console.open()
    expect(tab.page.get_by_role("heading", name="Live events")).to_be_visible()
    for first in (1, 101):
        batch = [alarm(incident=f"inc-{number}") for number in range(first, first + 100)]
        worker.say("ev/alarm", worker.voice.batch(first, batch, lane="alarm"))
    expect(tab.page.locator('[data-incident="inc-200"]')).to_be_visible(timeout=NEWS_MS)
    rows = tab.page.locator(".feed-row")
    expect(rows).to_have_count(100)
    ids = [int(value) for value in rows.evaluate_all("rows => rows.map(r => r.dataset.event)")]
    assert ids == sorted(ids, reverse=True)


def test_markup_in_events_is_text(console: Console, worker: FakeWorker) -> None:
    """Whatever field holds it, live or in the first HTML, markup is shown and not obeyed."""
    tab = console.open()
    expect(tab.page.get_by_role("heading", name="Live events")).to_be_visible()
    fields = ("kind", "camera", "task", "rule", "severity", "reason", "label", "zone", "line",
              "direction", "message")  # fmt: skip
    evil = [alarm(incident=f"inc-evil-{field}", **{field: MARKUP}) for field in fields]
    evil.append(alarm(incident=MARKUP))
    worker.say("ev/alarm", worker.voice.batch(1, evil, lane="alarm"))
    for page in (tab.page, console.open().page):
        expect(page.locator('[data-incident="inc-evil-message"]')).to_be_visible(timeout=NEWS_MS)
        expect(page.locator('[data-incident="inc-evil-message"]')).to_contain_text(MARKUP)
        expect(page.locator(".feed-row img, .feed-row b")).to_have_count(0)
        assert page.evaluate("window.hurt") is None
    tab.screenshot("console-markup")


# --- work --------------------------------------------------------------------------------------


def editor(page: Page) -> Locator:
    return page.locator(".cm-content")


def write(page: Page, text: str) -> None:
    """Replace the editor's text; pasted, so that it does not indent by itself."""
    editor(page).click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def test_a_new_user_does_everything_from_the_console(console: Console) -> None:
    """Station, worker, camera and task are made by hand, the task edited and removed."""
    tab = console.open()
    page = tab.page
    page.get_by_role("button", name="Add station").click()
    page.get_by_label("Name", exact=True).fill("By Hand")
    page.get_by_role("dialog").get_by_role("button", name="Add station").click()
    expect(page.get_by_role("dialog")).to_contain_text("lower-case letters")
    page.get_by_label("Name", exact=True).fill("by-hand")
    page.get_by_role("dialog").get_by_role("button", name="Add station").click()
    expect(page.get_by_text("No workers yet")).to_be_visible()
    page.get_by_role("button", name="Add worker").click()
    page.get_by_label("Name", exact=True).fill("by-hand-w")
    page.get_by_role("dialog").get_by_role("button", name="Add worker").click()
    expect(page.get_by_role("cell", name="by-hand-w", exact=True)).to_be_visible()
    page.get_by_role("button", name="Add camera").click()
    page.get_by_label("Name", exact=True).fill("bay")
    page.get_by_label("Stream URL").fill("rtsp://operator:hunter2@192.0.2.10/one")
    page.get_by_role("dialog").get_by_role("button", name="Add camera").click()
    expect(page.get_by_text("rtsp://192.0.2.10/one")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert "hunter2" not in page.content()

    page.get_by_role("button", name="New task").click()
    page.get_by_label("Name", exact=True).fill("bay")
    page.get_by_role("button", name="Assign task").click()
    task = page.get_by_role("row", name="by-hand").filter(has=page.get_by_text("forecourt-nano"))
    expect(task).to_contain_text("Pending")
    stored = console.center.get("/stations/by-hand/tasks/bay")
    assert stored["spec"]["rules"][0]["name"] == "person-in-bay"
    assert stored["status"]["worker"] == "by-hand-w"

    task.get_by_role("button", name="Remove").or_(task.get_by_role("link", name="Remove")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Remove task bay of station by-hand?")
    dialog.get_by_role("button", name="Remove task bay of station by-hand").click()
    expect(task).to_have_count(0)
    assert console.center.get("/tasks", station="by-hand")["items"] == []
    assert tab.hosts == {console.center.url.removeprefix("http://")}
    assert tab.complaints == []


def test_a_bad_rule_is_explained_and_kept(console: Console, worker: FakeWorker) -> None:
    """A refused edit names the path and the line, keeps every word, and saves once it is mended."""
    station = station_of(worker)
    metadata = {"name": "t1", "station": station, "labels": {"fuel": "diesel"}}
    console.center.put({"kind": "Task", "metadata": metadata, "spec": SPEC})
    before = console.center.get(f"/stations/{station}/tasks/t1")["spec"]
    tab = console.open(f"/console/tasks/{station}/t1")
    page = tab.page
    expect(editor(page)).to_contain_text("person")
    page.get_by_label("Looks per second").fill("7")
    wrong = RULES.replace("in: bay", "in: nowhere")
    write(page, wrong)
    page.get_by_role("button", name="Save changes").click()
    found = page.get_by_role("alert").filter(has_text="spec.rules[0].when.in")
    expect(found).to_contain_text("no zone 'nowhere' in spec.zones")
    expect(found).to_contain_text("line 5")
    tab.screenshot("console-bad-rule")
    assert editor(page).inner_text().split() == wrong.split()
    expect(page.get_by_label("Looks per second")).to_have_value("7")
    write(page, "zones: [")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("alert").filter(has_text="line 1")).to_be_visible()
    assert console.center.get(f"/stations/{station}/tasks/t1")["spec"] == before
    write(page, RULES)
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("heading", name="Live events")).to_be_visible()
    stored = console.center.get(f"/stations/{station}/tasks/t1")
    assert stored["spec"]["fps"] == 7
    assert stored["spec"]["rules"][0]["when"] == {"class": ["person"], "in": "bay"}
    assert stored["metadata"]["labels"] == {"fuel": "diesel"}


def test_an_edit_does_not_undo_another(console: Console, worker: FakeWorker) -> None:
    """Saving over a change that was made meanwhile is refused, and the text stays."""
    station = station_of(worker)
    metadata = {"name": "t1", "station": station}
    console.center.put({"kind": "Task", "metadata": metadata, "spec": SPEC})
    page = console.open(f"/console/tasks/{station}/t1").page
    expect(editor(page)).to_contain_text("person")
    console.center.put({"kind": "Task", "metadata": metadata, "spec": {**SPEC, "fps": 9}})
    write(page, RULES)
    page.get_by_role("button", name="Save changes").click()
    expect(
        page.get_by_role("alert").filter(has_text="somebody changed or removed this task")
    ).to_be_visible()
    assert console.center.get(f"/stations/{station}/tasks/t1")["spec"]["fps"] == 9
    assert editor(page).inner_text().split() == RULES.split()


def test_a_refused_task_says_why(console: Console, worker: FakeWorker) -> None:
    """A worker's answer for a task, its reason in full, comes to an open page without a reload."""
    station = station_of(worker)
    console.center.put(
        {"kind": "Task", "metadata": {"name": "t1", "station": station}, "spec": SPEC}
    )
    page = console.open().page
    row = page.get_by_role("row", name=station).filter(has=page.get_by_text("nano"))
    expect(row).to_contain_text("Pending")
    revision = console.center.task(station, "t1")["desired_revision"]
    observed = worker.voice.observed("Task", "t1", revision, "Rejected")
    reason = "the model nano is not on this worker; put its folder below --models"
    item = msgspec.structs.replace(observed.items[0], reason=reason)
    worker.say("observed", msgspec.structs.replace(observed, items=[item]))
    expect(row).to_contain_text("Rejected", timeout=2 * NEWS_MS)
    expect(row).to_contain_text(reason)
    expect(row).to_contain_text(f"{revision} / {revision}")


def test_many_stations_come_in_pages(console: Console) -> None:
    """The browser holds one page of stations; the filter and the arrows reach all others."""
    for number in range(10):
        console.furnish(f"many-{number:02}", f"many-{number:02}-w")
    tab = console.open()
    page = tab.page
    names = page.locator("a.name", has_text=re.compile("^many-"))
    page.get_by_label("Filter by name, title or state").fill("MANY unknown")
    expect(names).to_have_count(8)
    expect(names.first).to_have_text("many-00")
    page.get_by_role("button", name="Next page").first.click()
    expect(names).to_have_text(["many-08", "many-09"])
    page.get_by_label("Filter by name, title or state").fill("many-07")
    expect(names).to_have_text(["many-07"])
    page.get_by_label("Filter by name, title or state").fill("no such thing")
    expect(page.get_by_text("Nothing matches the filter.").first).to_be_visible()


def test_a_failing_database_is_said_and_survived(console: Console, worker: FakeWorker) -> None:
    """While nothing can be read the page says so and keeps what it shows; then it goes on."""
    tab = console.open()
    page = tab.page
    page.get_by_label("Filter by name, title or state").fill(station_of(worker))
    row = page.get_by_role("row", name=station_of(worker))
    expect(row).to_be_visible()
    with closing(sqlite3.connect(console.center.data / "center.db")) as database:
        database.execute("ALTER TABLE events RENAME TO away")
        try:
            said = page.get_by_role("alert").filter(has_text="database cannot be read")
            expect(said).to_be_visible(timeout=2 * NEWS_MS)
            expect(row).to_be_visible()
        finally:
            database.execute("ALTER TABLE away RENAME TO events")
    expect(said).to_be_hidden(timeout=2 * NEWS_MS)


# --- models ------------------------------------------------------------------------------------


def test_models_and_how_they_fare(console: Console, worker: FakeWorker) -> None:
    """The page names each model, its users, its states at workers and reasons, as text."""
    station = station_of(worker)
    console.center.put(
        {
            "kind": "Task",
            "metadata": {"name": "watching", "station": station},
            "spec": {**SPEC, "model": {"name": "yard-model"}},
        }
    )
    pushed = push(console.center.http, name="yard-model", version="7", license="Apache-2.0")
    assert pushed.status_code == 200, pushed.text
    tab = console.open("/console/models")
    row = tab.page.get_by_role("row").filter(has_text="yard-model")
    expect(row).to_contain_text("version 7")
    expect(row).to_contain_text(f"{station}/watching")
    expect(row).to_contain_text("1 Pending")
    item = ItemObserved(
        kind="Model",
        id="yard-model",
        revision=pushed.json()["revision"],
        state="Rejected",
        reason=f"it finds nothing {MARKUP}; version 6 goes on",
    )
    known = worker.voice.desired
    worker.say("observed", Observed(session=worker.voice.session, desired=known, items=[item]))
    expect(row).to_contain_text("1 Rejected", timeout=2 * NEWS_MS)
    expect(row).to_contain_text("version 6 goes on")
    assert tab.page.evaluate("window.hurt") is None
    tab.screenshot("models")
    row.get_by_role("button", name="Remove model yard-model").click()
    tab.page.get_by_role("button", name="Remove model yard-model", exact=True).last.click()
    expect(tab.page.get_by_role("dialog")).to_contain_text(f"{station}/watching")
    console.center.delete("Task", "watching", station)
    tab.page.get_by_role("button", name="Remove model yard-model", exact=True).last.click()
    expect(row).to_have_count(0, timeout=2 * NEWS_MS)
    assert tab.complaints == []
