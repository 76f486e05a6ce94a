"""Models at the center: pushed in parts, whole or not at all, told to those who need them."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update

from center import db, dispatch
from center.check import check
from center.desk import TELLING_S
from center.tables import model_parts, tasks
from tests.parts.centers import (
    SQLITE_ONLY,
    Rig,
    SimulatedClock,
    camera,
    furnish,
    station,
    task,
    worker,
)
from tests.parts.models import FILE, manifest, parts, push, sha256_of
from tests.parts.workers import Voice
from wire.models import PART_BYTES

SHA = sha256_of(FILE)
FILE_PATH = f"/api/v1/models/{SHA}/file"
DAY_S = 24 * 3600


def parts_held(center: Rig) -> int:
    with center.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(model_parts)).scalar_one()


def documents(center: Rig, worker: str = "w1") -> dict[str, dict[str, object]]:
    """The models in a worker's document, by name."""
    with center.database.reading() as connection:
        found = [item for part in dispatch.whole(connection, worker, "s") for item in part.items]
    return {item.id: msgspec.json.decode(item.body) for item in found if item.kind == "Model"}


@pytest.fixture
def fetching(client: httpx.Client, center: Rig) -> Iterator[httpx.Client]:
    """A client with the token of worker w1, whose task names the model."""
    furnish(center.desk, "t1")
    secret = client.post("/api/v1/workers/w1/token").json()["token"]
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=client.base_url, headers=headers, timeout=20) as made:
        yield made


def test_a_pushed_model_is_told_to_the_workers_that_need_it(
    client: httpx.Client, center: Rig
) -> None:
    """The document of a worker whose task names it has it, of others not; a change follows."""
    furnish(center.desk, "t1")
    for other in (station("s2"), worker("w2", "s2"), camera("c1", "s2")):
        center.desk.put(other)
    center.desk.put(task("t2", station="s2", model={"name": "another"}))
    assert documents(center) == {}
    center.woken.clear()
    answer = push(client)
    assert (answer.status_code, answer.json()["result"]) == (200, "created")
    assert center.woken == ["w1"]
    assert documents(center)["nano"]["sha256"] == SHA
    assert documents(center, "w2") == {}
    again = push(client)
    assert (again.json()["result"], center.woken) == ("unchanged", ["w1"])
    other_file = FILE + b"!"
    assert push(client, other_file, version="2").json()["result"] == "updated"
    assert documents(center)["nano"]["sha256"] == sha256_of(other_file)
    assert list(check(center.database)) == []


@SQLITE_ONLY
def test_many_stations_are_told_a_few_at_a_time(
    client: httpx.Client, center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push answers in time; the same again goes on, until there is no one left."""
    names = [f"s{number}" for number in range(5)]
    for name in names:
        for one in (station(name), worker(f"{name}-w", name), camera("c1", name)):
            center.desk.put(one)
        center.desk.put(task(station=name))
    center.desk.put(station("empty"))
    center.desk.put(camera("c1", "empty"))
    center.desk.put(task(station="empty"))
    ticks = itertools.count(0.0, TELLING_S * 0.6)
    monkeypatch.setattr(SimulatedClock, "elapsed_s", lambda clock: next(ticks))
    monkeypatch.setattr("center.desk._STATIONS_AT_ONCE", 2)
    left = [push(client).json()["untold"]]
    while left[-1]:
        left.append(push(client).json()["untold"])
    assert left == [3, 1, 0]
    assert all(set(documents(center, f"{name}-w")) == {"nano"} for name in names)
    assert list(check(center.database)) == []


def test_a_task_that_comes_later_brings_the_model(client: httpx.Client, center: Rig) -> None:
    """The model is in the document as long as a task of the worker names it."""
    push(client)
    furnish(center.desk, "t1", "t2")
    assert set(documents(center)) == {"nano"}
    center.desk.delete_task("s1", "t1")
    assert set(documents(center)) == {"nano"}
    center.desk.put(task("t2", model={"name": "another"}))
    assert documents(center) == {}


def test_a_broken_push_leaves_nothing_visible_and_goes_on_later(
    client: httpx.Client, center: Rig
) -> None:
    """Parts alone are no model; who pushes again sends what is missing."""
    furnish(center.desk, "t1")
    first = parts(FILE)[0]
    assert client.put(f"{FILE_PATH}/parts/0", content=first).status_code == 200
    refused = client.put("/api/v1/models/nano", json=manifest())
    assert refused.status_code == 409
    assert "part 1" in refused.json()["detail"]
    assert client.get("/api/v1/models").json()["items"] == []
    assert client.get(FILE_PATH).status_code == 404
    assert client.get(f"{FILE_PATH}/parts").json() == {"whole": False, "numbers": [0]}
    assert documents(center) == {}
    assert push(client).status_code == 200
    assert client.get(f"{FILE_PATH}/parts").json()["whole"] is True


def test_wrong_bytes_are_refused_and_thrown_away(client: httpx.Client, center: Rig) -> None:
    """A file that is not what its sha256 says is no model, and does not stand in the way."""
    for number, part in enumerate(parts(FILE[:-1] + b"X")):
        client.put(f"{FILE_PATH}/parts/{number}", content=part)
    refused = client.put("/api/v1/models/nano", json=manifest())
    assert refused.status_code == 409
    assert "another one" in refused.json()["detail"]
    assert parts_held(center) == 0
    assert push(client).json()["result"] == "created"


def test_a_whole_file_stays_as_it_is(client: httpx.Client, center: Rig) -> None:
    """No part of a file that a model names can be changed."""
    push(client)
    answer = client.put(f"{FILE_PATH}/parts/0", content=b"other bytes")
    assert answer.json() == {"result": "unchanged"}
    assert client.get(FILE_PATH).content == FILE


def test_limits(client: httpx.Client, center: Rig, web: tuple[FastAPI, str]) -> None:
    """Too large a file, too large a part, an empty one and too many unfinished ones are refused."""
    web[0].state.desk = replace(center.desk, model_bytes=2 * PART_BYTES)
    assert client.put(f"{FILE_PATH}/parts/2", content=b"x").status_code == 409
    assert client.put(f"{FILE_PATH}/parts/0", content=b"").status_code == 409
    assert client.put(f"{FILE_PATH}/parts/0", content=b"x" * (PART_BYTES + 1)).status_code == 413
    assert client.put("/api/v1/models/nano", json=manifest()).status_code == 409
    for number in range(4):
        path = f"/api/v1/models/{sha256_of(bytes([number]))}/file/parts/0"
        assert client.put(path, content=b"x").status_code == 200
    refused = client.put(f"{FILE_PATH}/parts/0", content=b"x")
    assert refused.status_code == 409
    assert "not finished" in refused.json()["detail"]
    center.clock.pass_s(DAY_S + 1)
    assert client.put(f"{FILE_PATH}/parts/0", content=b"x").status_code == 200
    assert parts_held(center) == 1


def test_parts_of_an_old_version_are_swept(client: httpx.Client, center: Rig) -> None:
    """What no model names any more goes, but not while it may be an upload that goes on."""
    push(client)
    center.clock.pass_s(DAY_S + 1)
    push(client, b"a small one", version="2")
    assert parts_held(center) == 1
    assert client.get(FILE_PATH).status_code == 404


def test_deleting_waits_for_the_last_task(client: httpx.Client, center: Rig) -> None:
    """A model that a task names cannot be deleted; the answer names the task."""
    push(client)
    furnish(center.desk, "t1")
    refused = client.delete("/api/v1/models/nano")
    assert refused.status_code == 409
    assert "s1/t1" in refused.json()["detail"]
    center.desk.delete_task("s1", "t1")
    assert client.delete("/api/v1/models/nano", params={"dry_run": True}).status_code == 200
    assert client.delete("/api/v1/models/nano").status_code == 200
    assert client.get("/api/v1/models/nano").status_code == 404
    center.clock.pass_s(DAY_S + 1)
    push(client, b"another", name="another")
    assert parts_held(center) == 1


def test_a_damaged_file_is_found(client: httpx.Client, center: Rig) -> None:
    """`check` reads each model's file, and names the one that is not what it was."""
    push(client)
    assert list(check(center.database)) == []
    with center.database.transaction() as connection:
        damaged = update(model_parts).where(model_parts.c.number == 1)
        connection.execute(damaged.values(bytes=b"rot"))
    (finding,) = check(center.database)
    assert "model nano" in finding.what


@SQLITE_ONLY
def test_ranges(fetching: httpx.Client, client: httpx.Client) -> None:
    """A worker reads the file from any byte on, as RFC 9110 says."""
    push(client)
    whole = len(FILE)
    for asked, status, first, last in (
        ("", 200, 0, whole),
        ("bytes=0-9", 206, 0, 10),
        (f"bytes={PART_BYTES - 2}-{PART_BYTES + 1}", 206, PART_BYTES - 2, PART_BYTES + 2),
        (f"bytes={2 * PART_BYTES}-", 206, 2 * PART_BYTES, whole),
        ("bytes=-3", 206, whole - 3, whole),
        (f"bytes=5-{10**14}", 206, 5, whole),
        (f"bytes={whole}-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=1-2,4-5", 200, 0, whole),
        ("bytes=9-3", 200, 0, whole),
        ("lines=1-2", 200, 0, whole),
    ):
        answer = fetching.get(FILE_PATH, headers={"Range": asked} if asked else {})
        assert answer.status_code == status, asked
        if status < 400:
            assert answer.content == FILE[first:last], asked
            assert answer.headers["etag"] == f'"{SHA}"'


def test_a_worker_reads_its_own_models_and_nothing_else(
    fetching: httpx.Client, client: httpx.Client, center: Rig
) -> None:
    """I12: its token opens the files that its own document names, and no other route."""
    push(client)
    push(client, b"of others", name="another")
    assert fetching.get(FILE_PATH).content == FILE
    theirs = f"/api/v1/models/{sha256_of(b'of others')}/file"
    assert fetching.get(theirs).status_code == 404
    assert client.get(theirs).content == b"of others"
    for path in ("/models", "/models/nano", "/workers", "/events", "/openapi.json"):
        assert fetching.get(f"/api/v1{path}").status_code == 401, path
    assert fetching.put(f"{FILE_PATH}/parts/0", content=b"x").status_code == 401
    assert fetching.post("/api/v1/workers/w1/token").status_code == 401
    center.desk.delete_task("s1", "t1")
    assert fetching.get(FILE_PATH).status_code == 404


def test_tokens_of_workers_are_exchanged_and_end(
    fetching: httpx.Client, client: httpx.Client, center: Rig
) -> None:
    """The newest and the one before are good; they end when told, and with the worker."""
    push(client)
    mine = dict(fetching.headers)["authorization"]

    def opens(authorization: str) -> bool:
        answer = fetching.get(FILE_PATH, headers={"Authorization": authorization})
        return answer.status_code == 200

    made = []
    for _ in range(2):
        center.clock.pass_s(1)
        made.append(f"Bearer {client.post('/api/v1/workers/w1/token').json()['token']}")
    assert [opens(mine), *map(opens, made)] == [False, True, True]
    assert client.delete("/api/v1/workers/w1/token").status_code == 200
    assert not any(map(opens, made))
    again = f"Bearer {client.post('/api/v1/workers/w1/token').json()['token']}"
    assert opens(again)
    center.desk.delete_worker("w1")
    center.desk.put(worker("w1"))
    assert not opens(again)
    assert client.post("/api/v1/workers/nobody/token").status_code == 404


def test_what_becomes_of_a_model_is_told(client: httpx.Client, center: Rig) -> None:
    """The list says which tasks use it, in which state workers have it, and their reasons."""
    push(client)
    furnish(center.desk, "t1")
    (view,) = client.get("/api/v1/models").json()["items"]
    assert (view["tasks"], view["used_by"], view["workers"]) == (1, ["s1/t1"], {"Pending": 1})
    voice = Voice()
    center.hear("w1", "hello", voice.hello())
    said = voice.observed("Model", "nano", view["revision"], "Rejected")
    said = msgspec.structs.replace(
        said, items=[msgspec.structs.replace(said.items[0], reason="it finds nothing")]
    )
    center.hear("w1", "observed", said)
    view = client.get("/api/v1/models/nano").json()
    assert view["workers"] == {"Rejected": 1}
    assert view["troubles"] == [{"worker": "w1", "state": "Rejected", "reason": "it finds nothing"}]
    assert view["manifest"]["labels"] == ["person"]


def test_what_a_manifest_must_say(client: httpx.Client, center: Rig) -> None:
    """A manifest that is none, names another model, or a picture that does not travel: refused."""
    push(client)
    for changes, field in (
        ({"sha256": ""}, "sha256"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"name": "other"}, "name"),
        ({"check": {"picture": "yard.jpg"}}, ""),
        ({"labels": ["x" * 150] * 2000}, ""),
        ({"version": "\0"}, "version"),
    ):
        answer = client.put("/api/v1/models/nano", json={**manifest(), **changes})
        assert answer.status_code == 422, answer.text
        assert any(field in found["loc"] or not field for found in answer.json()["detail"])


@SQLITE_ONLY
def test_an_older_database_learns_which_model_each_task_names(center: Rig, tmp_path: Path) -> None:
    """The migration reads the tasks that are there, so that a push finds their stations."""
    furnish(center.desk, "t1")
    with center.database.transaction() as connection:
        for statement in (
            "DROP TABLE models", "DROP TABLE model_parts", "DROP TABLE worker_tokens",
            "DROP INDEX ix_tasks_model", "ALTER TABLE tasks DROP COLUMN model",
            "UPDATE alembic_version SET version_num = '0003'",
        ):  # fmt: skip
            connection.exec_driver_sql(statement)
    with closing(db.open_sqlite(center.folder)) as database:
        db.migrate(database)
        with database.reading() as connection:
            assert connection.execute(select(tasks.c.model)).scalars().all() == ["nano"]
