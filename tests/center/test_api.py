"""The REST API through a real web server: places, refusals, views."""

import httpx
import pytest

from center.metrics import LINK_COUNTERS, LINK_GAUGES
from tests.parts.centers import SQLITE_ONLY, Rig, camera, furnish, station, task, worker
from tests.parts.workers import Voice
from wire import specs
from wire.link import Broker, Link
from wire.messages import Deny, Welcome

API = "/api/v1"


def place(resource: specs.Resource) -> str:
    """The path of a resource."""
    name = resource.metadata.name
    if isinstance(resource, specs.Station):
        return f"{API}/stations/{name}"
    if isinstance(resource, specs.Worker):
        return f"{API}/workers/{name}"
    plural = "cameras" if isinstance(resource, specs.Camera) else "tasks"
    return f"{API}/stations/{resource.metadata.station}/{plural}/{name}"


def put(
    client: httpx.Client, resource: specs.Resource, at: str = "", dry_run: bool = False
) -> httpx.Response:
    params = {"dry_run": "true"} if dry_run else {}
    return client.put(at or place(resource), json=specs.document(resource), params=params)


def fields(answer: httpx.Response) -> list[list[object]]:
    """Where a 422 says that something is wrong."""
    assert answer.status_code == 422, answer.text
    assert all(set(one) == {"loc", "msg", "type"} for one in answer.json()["detail"])
    return [one["loc"] for one in answer.json()["detail"]]


ALL: list[specs.Resource] = [station(), worker(), camera(), task()]


def test_put_get_list_delete(client: httpx.Client) -> None:
    """Each kind is created, seen, listed, unchanged when put again, and deleted in order."""
    for resource in ALL:
        created = put(client, resource).json()
        assert (created["result"], created["before"]) == ("created", None)
        assert created["after"] == specs.redacted(resource)
        again = put(client, resource).json()
        assert (again["result"], again["revision"]) == ("unchanged", created["revision"])
        view = client.get(place(resource)).json()
        assert list(view) == ["kind", "metadata", "spec", "status"]
        assert (view["kind"], view["metadata"]["name"]) == (resource.kind, resource.metadata.name)
        listed = client.get(f"{API}/{resource.kind.lower()}s").json()["items"]
        assert listed == [client.get(place(resource)).json()]
    for resource in reversed(ALL):
        assert client.delete(place(resource)).json() == {"result": "deleted", "dry_run": False}
        missing = client.get(place(resource))
        assert missing.status_code == 404
        assert client.delete(place(resource)).status_code == 404
    assert missing.json() == {"detail": "no station s1"}


def test_dry_run_changes_nothing(client: httpx.Client, center: Rig) -> None:
    """A dry run says what would happen; afterwards nothing has."""
    furnish(center.desk, "t1")
    center.woken.clear()
    would = put(client, task(fps=7.0), dry_run=True).json()
    assert (would["result"], would["dry_run"], would["revision"]) == ("updated", True, None)
    assert would["after"]["spec"]["fps"] == 7.0
    assert "fps" not in would["before"]["spec"]
    assert put(client, task("new"), dry_run=True).json()["result"] == "created"
    gone = client.delete(place(task()), params={"dry_run": "true"}).json()
    assert gone == {"result": "deleted", "dry_run": True}
    listed = client.get(f"{API}/tasks", params={"station": "s1"}).json()["items"]
    assert [view["metadata"]["name"] for view in listed] == ["t1"]
    assert "fps" not in listed[0]["spec"]
    assert center.woken == []


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("resource", "at", "field"),
    [
        (station("s2"), f"{API}/stations/s1", ["metadata", "name"]),
        (worker(station="nowhere"), "", ["metadata", "station"]),
        (camera(station="nowhere"), "", ["metadata", "station"]),
        (camera(), f"{API}/stations/s2/cameras/c1", ["metadata", "station"]),
        (task("t2", camera="ghost"), "", ["spec", "camera"]),
        (task("t2", stream="sub"), "", ["spec", "stream"]),
    ],
)
def test_what_does_not_fit_is_refused(
    client: httpx.Client, center: Rig, resource: specs.Resource, at: str, field: list[str]
) -> None:
    """A reference to nothing, or another place than the path's, names its field."""
    furnish(center.desk)
    assert fields(put(client, resource, at)) == [["body", *field]]


@SQLITE_ONLY
def test_a_specs_problem_names_its_field(client: httpx.Client, center: Rig) -> None:
    """Problems are at the path that the operator wrote, without inner names, and quote nothing."""
    furnish(center.desk)
    document = specs.document(task())
    document["spec"]["rules"][0]["when"] = {"class": "person", "in": "yard"}
    answer = client.put(place(task()), json=document)
    assert fields(answer) == [["body", "spec", "rules", 0, "when", "in"]]
    document["spec"]["rules"][0] = {"name": "r", "when": {"class": "person", "into": "SECRET"}}
    answer = client.put(place(task()), json=document)
    assert fields(answer)[0] == ["body", "spec", "rules", 0, "when", "into"]
    assert "SECRET" not in answer.text
    assert fields(
        client.put(place(task()), content=b"{", headers={"content-type": "application/json"})
    )


def test_references_are_kept_whole(client: httpx.Client, center: Rig) -> None:
    """What is needed cannot go: 409 says by whom, and a used stream cannot be taken away."""
    furnish(center.desk, "t1")
    refusals = {place(camera()): "t1", place(station()): "t1"}
    for at, name in refusals.items():
        answer = client.delete(at)
        assert answer.status_code == 409
        assert name in answer.json()["detail"]
    without = specs.document(camera())
    without["spec"]["streams"] = {"sub": {"url": "rtsp://cameras.example/2"}}
    assert fields(client.put(place(camera()), json=without)) == [["body", "spec", "streams"]]
    put(client, station("s2"))
    moved = put(client, worker(station="s2"))
    assert moved.status_code == 409
    assert "s1" in moved.json()["detail"]


@SQLITE_ONLY
def test_passwords_are_kept_and_never_shown(client: httpx.Client, center: Rig) -> None:
    """I11: a put without the password keeps it; no answer shows it; another host loses it."""
    furnish(center.desk)
    secret = camera(url="rtsp://user:s3cret@cameras.example/1")
    answers = [put(client, secret), client.get(place(secret)), client.get(f"{API}/cameras")]
    shown = client.get(place(secret)).json()
    read_back = {key: shown[key] for key in ("kind", "metadata", "spec")}
    answers.append(client.put(place(secret), json=read_back))
    assert answers[-1].json()["result"] == "unchanged"
    read_back["spec"]["streams"]["main"]["url"] = "rtsp://elsewhere.example/1"
    answers.append(client.put(place(secret), json=read_back))
    assert answers[-1].json()["result"] == "updated"
    bad = specs.document(secret)
    bad["spec"]["streams"]["main"]["pace"] = "s3cret"
    answers.append(client.put(place(secret), json=bad))
    assert answers[-1].status_code == 422
    assert all("s3cret" not in answer.text for answer in answers)


@SQLITE_ONLY
def test_a_document_too_large_to_send_is_refused(
    client: httpx.Client, center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: the task that would make a worker's document unsendable is refused, with a way out."""
    monkeypatch.setattr("center.dispatch.MAX_DOCUMENT_BYTES", 4000)
    furnish(center.desk)
    answers = [put(client, task(f"t{number}")) for number in range(20)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 409
    assert "another worker" in answers[-1].json()["detail"]


@SQLITE_ONLY
def test_a_task_too_large_to_send_is_refused(
    client: httpx.Client, center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: an item that fits into no message is refused before it is kept."""
    monkeypatch.setattr("center.dispatch.MAX_ITEM_BYTES", 400)
    furnish(center.desk, "t1")
    corners = [[0.1 + step / 1000, step * step / 5000] for step in range(64)]
    answer = put(client, task("t2", zones={"pump": corners}))
    assert answer.status_code == 409
    assert "Task t2 takes" in answer.json()["detail"]
    assert client.get(place(task("t2"))).status_code == 404


def test_replace_a_worker(client: httpx.Client, center: Rig) -> None:
    """The API notes the operator's word; the next device that would be denied is let in, once."""
    furnish(center.desk)
    center.hear("w1", "hello", Voice().hello())
    other = Voice(instance="disk-2", boot="boot-9", session="session-9").hello()
    (denied,) = center.hear("w1", "hello", other)
    assert isinstance(denied, Deny)
    answer = client.post(f"{API}/workers/w1/replace")
    assert answer.status_code == 200
    assert answer.json()["status"]["replace"]
    welcome = center.hear("w1", "hello", other)[0]
    assert isinstance(welcome, Welcome)
    status = client.get(f"{API}/workers/w1").json()["status"]
    assert (status["fence"], status["replace"], status["cause"]) == (2, False, "")
    (denied,) = center.hear("w1", "hello", Voice(session="session-2").hello())
    assert isinstance(denied, Deny), "who had the name and lives is a clone now"
    assert client.post(f"{API}/workers/nobody/replace").status_code == 404


def test_status(client: httpx.Client, center: Rig) -> None:
    """Statuses follow the worker: never heard, then welcomed, then running."""
    center.desk.put(station())
    center.desk.put(camera())
    center.desk.put(task())
    at = place(task())
    assert client.get(at).json()["status"]["reason"] == "the station has no worker"
    center.desk.put(worker())
    assert client.get(at).json()["status"]["state"] == "Pending"
    assert "never been heard" in client.get(at).json()["status"]["reason"]
    welcome, _ = center.hear("w1", "hello", Voice().hello())
    assert isinstance(welcome, Welcome)
    assert "not answered" in client.get(at).json()["status"]["reason"]
    revision = client.get(at).json()["status"]["desired_revision"]
    center.hear("w1", "observed", Voice().observed("Task", "t1", revision, "Running"))
    assert client.get(at).json()["status"]["state"] == "Running"
    assert client.get(place(station())).json()["status"] == {
        "state": "Online",
        "last_heard_ms": center.clock.now_ms(),
        "workers": 1,
        "cameras": 1,
        "tasks": 1,
        "open_alarms": 0,
    }
    put(client, task(fps=1.0))
    assert "meanwhile revision" in client.get(at).json()["status"]["reason"]
    center.clock.pass_s(1000)
    assert "Autonomous" in client.get(at).json()["status"]["reason"]
    found = client.get(f"{API}/workers/w1").json()["status"]
    assert (found["state"], found["software"], found["fence"]) == ("Autonomous", "test 1", 1)


@SQLITE_ONLY
def test_nothing_answers_without_a_token(client: httpx.Client) -> None:
    """Every route of the schema answers 401 without a token, or with a wrong one."""
    schema = client.get(f"{API}/openapi.json").json()
    closed = [f"{API}/openapi.json", "/metrics"]
    routes = [(method, path) for path, methods in schema["paths"].items() for method in methods]
    assert len(routes) > 18
    for method, path in [*routes, *(("get", path) for path in closed)]:
        for header in ("", "Bearer", "Bearer wrong", "Basic dTpw", "Bearer \xff"):
            headers = {b"Authorization": header.encode("latin-1")}
            concrete = path.replace("{station}", "s1").replace("{name}", "n1")
            answer = client.request(method, concrete, headers=headers)
            if path == "/healthz":
                assert answer.json() == {"status": "ok"}
            else:
                assert answer.status_code == 401, (method, path, header)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "detail" in answer.json()


@SQLITE_ONLY
def test_large_bodies_are_refused(client: httpx.Client) -> None:
    """I8: a body above 1 MiB is answered by 413, whether its size was declared or not."""
    at = place(station())
    big = b'{"kind":"Station","metadata":{"name":"' + b"x" * (1024 * 1024) + b'"}}'
    assert client.put(at, content=big).status_code == 413
    pieces = (big[start : start + 65536] for start in range(0, len(big), 65536))
    answer = client.put(at, content=pieces, headers={"content-type": "application/json"})
    assert answer.status_code == 413


@SQLITE_ONLY
def test_openapi_names_the_schemas(client: httpx.Client) -> None:
    """OpenAPI names the resources' own schemas."""
    schema = client.get(f"{API}/openapi.json").json()
    body = schema["paths"][API + "/stations/{station}/tasks/{name}"]["put"]["requestBody"]
    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert "rules" in schema["components"]["schemas"]["TaskSpec"]["properties"]
    assert name.startswith("Task")


@SQLITE_ONLY
def test_metrics(client: httpx.Client, center: Rig) -> None:
    """Prometheus text with counters of the process and gauges of the database."""
    furnish(center.desk)
    center.hear("w1", "hello", Voice().hello())
    lines = client.get("/metrics").text.splitlines()
    assert "forecourt_center_hellos_total 1" in lines
    assert 'forecourt_center_workers{state="Online"} 1' in lines
    assert 'forecourt_center_waiting_messages{queue="ingest"} 0' in lines
    assert "# TYPE forecourt_center_link_published_total counter" in lines
    assert "forecourt_center_link_queued 0" in lines


def test_the_metrics_of_the_link_are_those_that_a_link_has() -> None:
    """A counter that the link gains is not forgotten here, and none is asked for that it lost."""
    link = Link([Broker(host="127.0.0.1", port=1)], "test", [], lambda _: None)
    assert set(link.stats()) == {*LINK_COUNTERS, *LINK_GAUGES}


def test_workers_of_one_station(client: httpx.Client, center: Rig) -> None:
    """`station` leaves the workers of others out; a name that is none is refused."""
    for resource in (station("s1"), station("s2"), worker("w1", "s1"), worker("w2", "s2")):
        put(client, resource)
    listed = client.get(f"{API}/workers", params={"station": "s2"}).json()["items"]
    assert [view["metadata"]["name"] for view in listed] == ["w2"]
    assert fields(client.get(f"{API}/workers", params={"station": "s2\n"})) == [
        ["query", "station"]
    ]


@SQLITE_ONLY
def test_strangers_are_told_beside_the_workers(client: httpx.Client, center: Rig) -> None:
    """Whoever adds a device sees that it speaks, and under which name."""
    furnish(center.desk)
    center.hear("w-9", "hello", Voice(worker="w-9").hello())
    answer = client.get(f"{API}/workers").json()
    assert [view["metadata"]["name"] for view in answer["items"]] == ["w1"]
    assert answer["strangers"] == [{"name": "w-9", "last_heard_ms": center.clock.now_ms()}]
