"""From a desired document to actions: a bad item stops no other, only changes are acted on."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edge.reconcile import Start, Stop, StreamKey, StreamWork, TaskWork, Update, plan, resolve
from wire import specs
from wire.messages import Item


def item(kind: str, name: str, spec: dict[str, Any], revision: int = 1) -> Item:
    """An item as the center sends it."""
    body = {"kind": kind, "metadata": {"name": name, "station": "s1"}, "spec": spec}
    return Item(kind=kind, id=name, revision=revision, body=msgspec.Raw(json.dumps(body).encode()))


def camera(name: str = "c1", url: str = "rtsp://host/1") -> Item:
    """A camera item."""
    return item("Camera", name, {"streams": {"main": {"url": url}}})


def task(name: str, camera: str = "c1", revision: int = 1, **more: Any) -> Item:
    """A task item."""
    spec = {
        "camera": camera,
        "model": {"name": "m"},
        "rules": [{"name": "r", "when": {"class": "car"}}],
        **more,
    }
    return item("Task", name, spec, revision)


def allowed(stream: specs.Stream) -> str | None:
    """A worker that may open anything but recordings."""
    return "no recordings here" if stream.url.startswith("file:") else None


def test_tasks_of_a_camera_share_its_stream() -> None:
    """One decode serves all tasks on the same stream."""
    resolved = resolve([camera(), task("a"), task("b")], allowed)
    (work,) = resolved.works
    assert work.key == StreamKey("c1", "main")
    assert [t.name for t in work.tasks] == ["a", "b"]
    assert [(i.kind, i.state) for i in resolved.accepted] == [("Camera", "Running")]


def test_tasks_know_the_time_zone_of_their_station() -> None:
    """It comes as an item of its own; without one schedules are read in UTC."""
    said = (
        b'{"kind": "Station", "metadata": {"name": "s1"}, "spec": {"time_zone": "Europe/Berlin"}}'
    )
    station = Item(kind="Station", id="s1", revision=3, body=msgspec.Raw(said))
    resolved = resolve([camera(), task("a"), station], allowed)
    assert [work.time_zone for stream in resolved.works for work in stream.tasks] == [
        "Europe/Berlin"
    ]
    assert ("Station", "s1", "Running") in [(i.kind, i.id, i.state) for i in resolved.accepted]
    (utc,) = resolve([camera(), task("a")], allowed).works
    assert [work.time_zone for work in utc.tasks] == ["UTC"]


def test_what_cannot_be_done_is_rejected_with_its_reason_and_the_rest_goes_on() -> None:
    """Unknown camera, unknown stream, forbidden recording, damaged item: each says why."""
    broken = Item(kind="Task", id="broken", revision=4, body=msgspec.Raw(b'{"kind":"Task"}'))
    liar = msgspec.structs.replace(task("honest"), id="liar")
    resolved = resolve(
        [
            camera(), camera("files", "file:///x.mp4"), task("good"), broken, liar,
            task("lost", camera="c9"), task("thin", stream="sub"), task("film", camera="files"),
            task("odd", rules=[{"name": "r", "when": {"class": "car", "in": "nowhere"}}]),
            item("Station", "s1", {}),
        ],
        allowed,
    )  # fmt: skip
    assert [t.name for work in resolved.works for t in work.tasks] == ["good"]
    reasons = {i.id: i.reason for i in resolved.rejected}
    assert set(reasons) == {"broken", "liar", "lost", "thin", "film", "odd", "s1"}
    assert reasons["lost"] == "spec.camera: no camera 'c9'"
    assert "no stream 'sub'" in reasons["thin"]
    assert reasons["film"] == "no recordings here"
    assert "spec.rules[0].when.in: no zone 'nowhere'" in reasons["odd"]
    assert all(i.state == "Rejected" for i in resolved.rejected)
    assert next(i.revision for i in resolved.rejected if i.id == "broken") == 4


def works(*items: Item) -> dict[StreamKey, StreamWork]:
    """The streams that a document comes to."""
    return {work.key: work for work in resolve(items, allowed).works}


def test_only_changes_are_acted_on() -> None:
    """Same document: nothing. A changed task: update. A changed address: stop and start."""
    before = works(camera(), task("a"))
    assert plan(before.values(), before) == []
    changed = works(camera(), task("a", revision=2))
    (update,) = plan(changed.values(), before)
    assert isinstance(update, Update)
    moved = works(camera(url="rtsp://host/2"), task("a"))
    assert [type(action) for action in plan(moved.values(), before)] == [Stop, Start]
    assert plan([], before) == [Stop(StreamKey("c1", "main"))]


documents = st.dictionaries(
    st.sampled_from(["c1", "c2", "c3"]),
    st.tuples(
        st.sampled_from(["rtsp://h/1", "rtsp://h/2"]),
        st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 3), min_size=1),
    ),
)


def streams(document: dict[str, tuple[str, dict[str, int]]]) -> dict[StreamKey, StreamWork]:
    """Streams as a document says, without going through its bytes."""
    parsed = specs.parse(msgspec.json.decode(task("t").body))
    assert isinstance(parsed, specs.Task)
    return {
        StreamKey(name, "main"): StreamWork(
            StreamKey(name, "main"),
            specs.Stream(url=url),
            tuple(
                TaskWork(
                    parsed.model_copy(update={"metadata": specs.InStation(name=t, station="s1")}),
                    revision,
                )
                for t, revision in sorted(tasks.items())
            ),
        )
        for name, (url, tasks) in document.items()
    }


@given(documents, documents)
def test_a_plan_carried_out_reaches_what_is_wanted(before: Any, after: Any) -> None:
    """I5: from any running set, the plan's actions lead to just the wanted set."""
    running = streams(before)
    wanted = streams(after)
    for action in plan(wanted.values(), dict(running)):
        match action:
            case Stop(key):
                del running[key]
            case Start(work):
                assert work.key not in running
                running[work.key] = work
            case Update(work):
                assert running[work.key].stream == work.stream
                running[work.key] = work
    assert running == wanted
