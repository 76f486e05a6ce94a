"""`forecourt apply` and `delete` against a center."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.fake_center import TOKEN, FakeCenter

SITE = """\
kind: Task
metadata: {name: bay-2, station: s1}
spec:
  camera: yard
  model: {name: nano}
  zones: {pump: [[0, 0], [1, 0], [1, 1]]}
  rules: [{name: overstay, when: {class: car, in: pump}, for: 10m}]
---
kind: Camera
metadata: {name: yard, station: s1}
spec: {streams: {main: {url: "rtsp://admin:hunter2@10.0.0.5/main"}}}
---
kind: Worker
metadata: {name: w1, station: s1}
---
kind: Station
metadata: {name: s1}
spec: {title: Kastanienallee}
"""
PLACES = ["station/s1", "worker/w1", "camera/s1/yard", "task/s1/bay-2"]


@pytest.fixture(autouse=True)
def site(tmp_path: Path) -> Path:
    """The site's file in the present folder."""
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def test_apply_creates_in_order_and_is_idempotent(run: Run, center: FakeCenter) -> None:
    """Stations come before what is in them; the second time nothing changes."""
    first = run("apply", "-f", "site.yaml")
    assert (first.code, first.out.splitlines()) == (0, [f"{place} created" for place in PLACES])
    again = run("apply", "-f", "-", stdin=SITE)
    assert (again.code, again.out.splitlines()) == (0, [f"{place} unchanged" for place in PLACES])


def test_one_bad_document_and_nothing_is_sent(run: Run, center: FakeCenter, site: Path) -> None:
    """Of two files with one mistake the center hears nothing."""
    Path("bad.yaml").write_text(SITE.replace("in: pump", "in: pmp").replace("bay-2", "bay-3"))
    ran = run("apply", "-f", str(site), "-f", "bad.yaml")
    assert ran.code == 2
    assert "(Task bay-3): spec.rules[0].when.in: no zone 'pmp' in spec.zones" in ran.err
    assert (center.requests, ran.out) == ([], "")


def test_a_dry_run_of_a_new_site_shows_it_all_and_changes_nothing(
    run: Run, center: FakeCenter
) -> None:
    """What depends on what the same run would create is no error."""
    ran = run("apply", "-f", "site.yaml", "--dry-run")
    assert ran.code == 0
    assert [line for line in ran.out.splitlines() if line.endswith("(dry run)")] == [
        f"{place} created (dry run)" for place in PLACES
    ]
    assert "+  title: Kastanienallee" in ran.out
    assert center.stored == {}
    assert "hunter2" not in ran.out + ran.err


def test_a_dry_run_shows_the_diff_of_a_change(run: Run, center: FakeCenter, site: Path) -> None:
    """The lines that change, as YAML, and no others' secrets."""
    run("apply", "-f", "site.yaml")
    site.write_text(SITE.replace("10m", "5m").replace("hunter2", "hunter3"))
    ran = run("apply", "-f", "site.yaml", "--dry-run")
    assert ran.code == 0
    assert "--- task/s1/bay-2 now" in ran.out
    assert "-    for: 600.0" in ran.out
    assert "+    for: 300.0" in ran.out
    assert "only a password changes" in ran.out
    assert "hunter" not in ran.out + ran.err
    assert run("apply", "-f", "site.yaml", "--dry-run").out == ran.out


def test_a_dry_run_still_refuses_what_nothing_would_create(
    run: Run, center: FakeCenter, site: Path
) -> None:
    """A camera that is neither stored nor in the files stays an error."""
    site.write_text(SITE.replace("camera: yard", "camera: gate"))
    ran = run("apply", "-f", "site.yaml", "--dry-run")
    assert ran.code == 2
    assert "(Task bay-2): metadata.station: no station 's1'" in ran.err


def test_the_centers_refusal_names_document_and_field(
    run: Run, center: FakeCenter, site: Path
) -> None:
    """One refused document fails the command, and the others are applied."""
    site.write_text(SITE.replace("name: nano", "name: refused"))
    ran = run("apply", "-f", "site.yaml", "--json")
    assert ran.code == 1
    assert "site.yaml:doc 1 (Task bay-2): spec.model.name: no such model" in ran.err
    results = json.loads(ran.out)["results"]
    assert [(each["place"], each["result"]) for each in results] == [
        *((place, "created") for place in PLACES[:3]), (PLACES[3], "refused"),
    ]  # fmt: skip


def test_a_refusal_that_changed_nothing_is_bad_input(
    run: Run, center: FakeCenter, site: Path
) -> None:
    """Exit 2 promises that the center is as it was; what was unchanged before does no harm."""
    run("apply", "-f", "site.yaml")
    site.write_text(SITE.replace("name: nano", "name: refused"))
    ran = run("apply", "-f", "site.yaml")
    assert ran.code == 2
    assert "spec.model.name: no such model" in ran.err
    assert "station/s1 unchanged" in ran.out


def test_an_unreachable_center_is_named_with_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, the URL, and where to set another."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("FORECOURT_TOKEN", TOKEN)
        ran = run("apply", "-f", "site.yaml", "--url", url)
    assert ran.code == 1
    assert f"no center answers at {url}" in ran.err
    assert "check --url or FORECOURT_URL" in ran.err
    assert "0 of 4 documents were done before" in ran.err


def test_the_token_is_never_shown(center: FakeCenter, site: Path) -> None:
    """Neither a refused token nor a crash of the connection prints it; argv never holds it."""
    token_file = site.with_name("token")
    token_file.write_text(f"{TOKEN}-wrong\n")
    words = ["apply", "-f", str(site), "--url", center.url, "--token-file", str(token_file)]
    ran = subprocess.run(
        [sys.executable, "-m", "cli", *words],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], env={"PATH": ""},
    )  # fmt: skip
    assert ran.returncode == 1
    assert "does not accept the token; check --token-file" in ran.stderr
    assert TOKEN not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ((500, {"detail": "the disk is full"}), "refused: the disk is full"),
        ((502, "<html>"), "refused: it answered with status 502"),
        ((200, ["no object"]), "does not behave like a center"),
        ((200, {"result": "created"}), "does not behave like a center"),
        ((307, {}), "does not behave like a center: it redirects"),
    ],
)
def test_strange_answers_end_in_one_sentence(
    run: Run, center: FakeCenter, sentence: tuple[int, object], expected: str
) -> None:
    """Whatever listens at the URL, no traceback."""
    center.sentence = sentence
    ran = run("apply", "-f", "site.yaml")
    assert ran.code == 1
    assert expected in ran.err


# --- delete ------------------------------------------------------------------------------------


def test_delete_by_name_and_again(run: Run, center: FakeCenter) -> None:
    """The second time it is missing, which may be fine."""
    run("apply", "-f", "site.yaml")
    words = ("delete", "task", "bay-2", "--station", "s1")
    assert run(*words).out == "task/s1/bay-2 deleted\n"
    again = run(*words)
    assert (again.code, again.out) == (1, "")
    assert "no /stations/s1/tasks/bay-2" in again.err
    ignoring = run(*words, "--ignore-missing")
    assert (ignoring.code, ignoring.out) == (0, "task/s1/bay-2 already gone\n")


def test_delete_files_in_reverse_order(run: Run, center: FakeCenter) -> None:
    """Tasks go first and stations last; a dry run says the same and deletes nothing."""
    run("apply", "-f", "site.yaml")
    dry = run("delete", "-f", "site.yaml", "--dry-run")
    assert dry.out.splitlines() == [f"{place} deleted (dry run)" for place in PLACES[::-1]]
    assert len(center.stored) == 4
    done = run("delete", "-f", "site.yaml")
    assert (done.code, done.out.splitlines()) == (0, [f"{p} deleted" for p in PLACES[::-1]])
    assert center.stored == {}


def test_what_is_needed_is_not_deleted(run: Run, center: FakeCenter) -> None:
    """The center's reason is passed on, in a dry run too."""
    run("apply", "-f", "site.yaml")
    for words in (("delete", "station", "s1"), ("delete", "station", "s1", "--dry-run")):
        ran = run(*words)
        assert ran.code == 1
        assert "is needed by" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("delete",),
        ("delete", "task"),
        ("delete", "task", "bay-2"),
        ("delete", "task", "../bay", "--station", "s1"),
        ("delete", "pump", "p1"),
        ("delete", "event", "1"),
        ("delete", "task", "bay-2", "-f", "site.yaml"),
    ],
)
def test_unclear_deletions_are_bad_input(
    run: Run, center: FakeCenter, words: tuple[str, ...]
) -> None:
    """Nothing is sent when it is not clear what is meant."""
    assert run(*words).code == 2
    assert center.requests == []
