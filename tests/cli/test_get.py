"""`forecourt get` and `events`."""

import json
import re
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cli import tables, terminal
from cli.access import Access
from cli.api import Api
from cli.errors import CommandError
from cli.events import following
from tests.cli.conftest import Run
from tests.cli.fake_center import TOKEN, FakeCenter
from tests.cli.test_apply import SITE
from wire import text


@pytest.fixture
def applied(run: Run, center: FakeCenter) -> FakeCenter:
    """A center with one site."""
    assert run("apply", "-f", "-", stdin=SITE).code == 0
    return center


@pytest.mark.parametrize("kind", ["stations", "station", "workers", "cameras", "Task", "tasks"])
def test_tables_fit_80_columns(run: Run, applied: FakeCenter, kind: str) -> None:
    """Singular and plural give a table that fits, without anyone's escape sequences."""
    ran = run("get", kind)
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "\x1b" not in ran.out


def test_tables_say_what_matters(run: Run, applied: FakeCenter) -> None:
    """Tasks show both revisions, state and reason; stations state and open alarms."""
    task = run("get", "tasks", "--station", "s1").out
    assert re.search(r"bay-2\s+s1\s+yard\s+Degraded\s+12 \(has\s+11\)\s+no GPU", task)
    assert re.search(r"s1\s+Autonomous\s+never\s+2\s+1\s+1\s+1", run("get", "stations").out)
    assert "rtsp://10.0.0.5/main" in run("get", "cameras", "-o", "wide").out


def test_yaml_can_be_applied_again(run: Run, applied: FakeCenter, tmp_path: Path) -> None:
    """What get writes changes nothing when applied, though it holds no password."""
    texts = [run("get", kind, "-o", "yaml").out for kind in ("stations", "cameras", "tasks")]
    assert "hunter2" not in "".join(texts)
    ran = run("apply", "-f", "-", stdin="---\n".join(texts))
    assert (ran.code, ran.out.splitlines()) == (
        0, ["station/s1 unchanged", "camera/s1/yard unchanged", "task/s1/bay-2 unchanged"],
    )  # fmt: skip


def test_json_is_one_object(run: Run, applied: FakeCenter) -> None:
    """A name gives the view itself, a list its items."""
    assert json.loads(run("get", "task", "bay-2", "--station", "s1", "-o", "json").out)["status"]
    assert len(json.loads(run("get", "workers", "-o", "json").out)["items"]) == 1


def test_json_can_be_applied_again(run: Run, applied: FakeCenter, tmp_path: Path) -> None:
    """A view and a list of them, from a pipe or a file; what the center reports is passed over."""
    listed = run("get", "tasks", "-o", "json").out
    one = run("get", "camera", "yard", "--station", "s1", "-o", "json").out
    (tmp_path / "tasks.json").write_text(listed)
    (tmp_path / "tasks.yaml").write_text(listed)
    for words, stdin, place in (
        (("-f", "-"), one, "camera/s1/yard"),
        (("-f", "-"), listed, "task/s1/bay-2"),
        (("-f", "tasks.json"), "", "task/s1/bay-2"),
        (("-f", "tasks.yaml"), "", "task/s1/bay-2"),
    ):
        ran = run("apply", *words, stdin=stdin)
        assert (ran.code, ran.out) == (0, f"{place} unchanged\n")


def test_names_in_the_table_of_events_stay_whole(run: Run, center: FakeCenter) -> None:
    """On 80 columns the station that all share is left out, and only what happened wraps."""
    center.add_event(camera="forecourt", rule="person-at-unloading", label="person", zone="unload")
    table = run("get", "events").out
    assert max(map(len, table.splitlines())) <= 80
    assert "STATION" not in table
    assert "  forecourt  person-at-unloading  start" in table
    assert "STATION" in run("get", "events", "-o", "wide").out
    center.add_event(station="s2")
    table = run("get", "events").out
    assert max(map(len, table.splitlines())) <= 80
    assert "  person-at-" in table
    assert "  unloading " in table
    center.add_event(station="s2", rule="r" * 63)
    table = run("get", "events").out
    assert "STATION" in table
    assert table.replace("\n", " ").count("r") > 63


def test_strangers_are_told_beside_the_workers(run: Run, applied: FakeCenter) -> None:
    """A name that speaks without being registered gets a line on stderr; the answer stays clean."""
    applied.strangers = [{"name": "w-9", "last_heard_ms": 0}]
    ran = run("get", "workers", "-o", "json")
    assert len(json.loads(ran.out)["items"]) == 1
    assert re.fullmatch(r"worker w-9 speaks \(.+ ago\), but is not registered\n", ran.err)
    assert run("get", "tasks").err == ""


def test_events_as_yaml(run: Run, center: FakeCenter) -> None:
    """One document for each event, whole."""
    for number in range(2):
        center.add_event(label=f"car-{number}")
    documents = text.read(run("get", "events", "-o", "yaml").out.encode())
    assert [document.content for document in documents] == center.events[::-1]


def test_names_that_are_not_there(run: Run, applied: FakeCenter) -> None:
    """A name is found in any station; a missing one is exit 1, a bad one exit 2."""
    assert run("get", "task", "bay-2").code == 0
    assert "no task bay-9 in any station" in run("get", "task", "bay-9").err
    assert run("get", "station", "s9").code == 1
    assert run("get", "station", "../s9").code == 2
    assert run("get", "station", "s1\n").code == 2
    assert run("get", "workers", "--station", "s1\n").code == 2
    assert run("get", "pumps").code == 2
    for kind in ("workers", "tasks", "events"):
        ran = run("get", kind, "--station", "s9")
        assert ran.code == 1
        assert "no /stations/s9" in ran.err
    assert run("get", "events", "--station", "s1").code == 0


def test_events_past(run: Run, center: FakeCenter) -> None:
    """Oldest first; filters and limits are kept over several pages."""
    for number in range(2500):
        center.add_event(severity="info" if number % 2 else "critical", label=f"car-{number}")
    ran = run("events", "--severity", "critical", "--limit", "1100", "-o", "json")
    labels = [json.loads(line)["label"] for line in ran.out.splitlines()]
    assert labels == [f"car-{number}" for number in range(300, 2500, 2)]
    assert "the latest 1100" in ran.err
    assert run("events", "--since", "2h").out == ""
    assert run("events", "--since", "soon").code == 2
    assert len(run("get", "events", "--limit", "3").out.splitlines()) == 4


def test_an_event_line_says_it_all(run: Run, center: FakeCenter) -> None:
    """Time, severity, place, rule, phase and what; text from afar cannot steer the terminal."""
    center.add_event(zone="pump\x1b[2J")
    line = run("events").out
    assert re.match(
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  warning   s1/yard  overstay  start  car in pump", line
    )
    assert "\x1b" not in line
    center.add_event(plate="#0123456789abcdef")
    assert "start  car #0123456789abcdef in" in run("events").out


def test_following_resumes_where_it_broke(
    center: FakeCenter, capsys: pytest.CaptureFixture[str]
) -> None:
    """After each break it goes on from the last id, says so, and repeats nothing."""
    center.break_stream_after = 2
    for _ in range(5):
        center.add_event()
    with Api(Access(center.url, TOKEN)) as api:
        events = list(islice(following(api, 0, {}, sleep=lambda _: None), 5))
    assert [event["id"] for event in events] == [1, 2, 3, 4, 5]
    assert center.resumed_from == ["0", "2", "4"]
    assert "resuming in" in capsys.readouterr().err


def test_following_sees_what_is_stored_meanwhile(center: FakeCenter) -> None:
    """An event that is stored while the stream is open arrives on it."""
    center.add_event()
    seen: list[dict[str, Any]] = []
    with Api(Access(center.url, TOKEN)) as api:
        stream = following(api, 1, {})
        reader = threading.Thread(target=lambda: seen.append(next(stream)), daemon=True)
        reader.start()
        center.add_event(label="truck")
        reader.join(timeout=10)
    assert [event["label"] for event in seen] == ["truck"]


def test_following_does_not_ask_again_after_a_no(center: FakeCenter) -> None:
    """A refused token ends it instead of trying for ever."""
    with Api(Access(center.url, "another")) as api, pytest.raises(CommandError):
        next(following(api, 0, {}))


def test_ages() -> None:
    """Ages are short and never negative."""
    cases = {0: "just now", 12_000: "12 s ago", 190_000: "3 min ago", 7_300_000: "2 h ago",
             90_000_000_000: "1041 d ago", -5_000: "just now"}  # fmt: skip
    for age_ms, words in cases.items():
        assert terminal.ago(1_000_000_000_000 - age_ms, 1_000_000_000_000) == words
    assert terminal.ago(None, 0) == "never"


def test_the_schema_names_every_kind(run: Run) -> None:
    """Editors get one JSON Schema for all resources."""
    schema = json.loads(run("schema").out)
    assert {"Station", "Worker", "Camera", "Task"} <= set(schema["$defs"])


def test_a_notification_says_who_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Each webhook has a line: that it was told, or why not yet and after how many attempts."""
    ways = [
        {"webhook": "duty", "state": "sent", "attempts": 1, "error": ""},
        {"webhook": "pager", "state": "waiting", "attempts": 3, "error": "it answered 503"},
    ]
    note = {"at_ms": 0, "severity": "critical", "station": "s1", "state": "waiting"}
    tables.print_table("notifications", [{**note, "deliveries": ways}], wide=False)
    shown = capsys.readouterr().out
    assert re.search(r"critical +waiting +duty: sent *\n +pager: it answered 503 \(3×\)", shown)
