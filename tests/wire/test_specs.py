"""What operators write is read, refused with the field's path, and written back."""

import copy
import json
from typing import Any

import pytest
import yaml

from wire import specs

TASK = yaml.safe_load("""
kind: Task
metadata: {name: bay-2, station: s0042, labels: {fuel: diesel}}
spec:
  camera: bay-2
  fps: 5
  model: {name: yolox-nano, min_score: 0.35, classes: [person, car, truck]}
  zones:
    unload: [[0.55, 0.40], [0.95, 0.40], [0.95, 0.95], [0.55, 0.95]]
    queue:  [[0.00, 0.20], [0.60, 0.20], [0.60, 0.40], [0.00, 0.40]]
  lines: {exit: [[0.1, 0.9], [0.9, 0.9]]}
  rules:
  - {name: person-at-unloading, when: {class: person, in: unload}, for: 3s, severity: critical}
  - {name: drive-out, when: {class: car, crosses: exit, direction: left-to-right}, severity: info}
  - {name: queue, when: {count: {class: car, in: queue}, at_least: 5}, for: 30s, clear: 10s}
  - name: unattended-unloading
    when:
      all:
      - {count: {class: truck, in: unload}, at_least: 1}
      - {not: {count: {class: person, in: unload}, at_least: 1}}
    for: 1.5m
""")


def changed(path: list[str | int], value: Any) -> dict[str, Any]:
    """The task with one field set to something else."""
    document: dict[str, Any] = copy.deepcopy(TASK)
    place: Any = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return document


def test_a_task_survives_being_written_and_read() -> None:
    """The canonical bytes of a task parse to the same task, and to the same bytes again."""
    task = specs.parse(TASK)
    body = specs.canonical(task)
    again = specs.parse(json.loads(body))
    assert again == task
    assert specs.canonical(again) == body
    assert isinstance(task, specs.Task)
    assert task.spec.rules[0].for_ == 3.0
    assert task.spec.rules[3].for_ == 90.0


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["kind"], "Tusk", "kind: 'Tusk' is none of Station, Worker, Camera, Task"),
        (["metadata", "name"], "Bay 2", "metadata.name: "),
        (["metadata", "station"], "", "metadata.station: "),
        (["spec", "colour"], "red", "spec.colour: "),
        (["spec", "fps"], 0, "spec.fps: "),
        (["spec", "zones", "unload"], [[0, 0], [1, 1]], "spec.zones.unload: "),
        (
            ["spec", "zones", "unload"],
            [[0, 0], [1, 1], [0.5, 0.5]],
            "spec.zones.unload: the polygon encloses no area",
        ),
        (["spec", "zones", "unload", 0, 0], 1.5, "spec.zones.unload[0][0]: "),
        (["spec", "zones", "unload", 0, 0], float("nan"), "spec.zones.unload[0][0]: "),
        (
            ["spec", "lines", "exit"],
            [[0.1, 0.1], [0.1, 0.1]],
            "spec.lines.exit: the line's two points are the same",
        ),
        (
            ["spec", "rules", 0, "when", "in"],
            "nowhere",
            "spec.rules[0].when.in: no zone 'nowhere' in spec.zones",
        ),
        (
            ["spec", "rules", 1, "when", "crosses"],
            "nowhere",
            "spec.rules[1].when.crosses: no line 'nowhere' in spec.lines",
        ),
        (
            ["spec", "rules", 0, "when", "class"],
            "dog",
            "spec.rules[0].when.class: class 'dog' is not in spec.model.classes",
        ),
        (
            ["spec", "rules", 3, "when", "all", 1, "not", "count", "in"],
            "nowhere",
            "spec.rules[3].when.all[1].not.count.in: no zone 'nowhere' in spec.zones",
        ),
        (
            ["spec", "rules", 3, "when", "all", 0, "at_least"],
            "many",
            "spec.rules[3].when.all[0].at_least: ",
        ),
        (["spec", "rules", 0, "for"], "soon", "spec.rules[0].for: 'soon' is no duration"),
        (["spec", "rules", 0, "for"], -1, "spec.rules[0].for: "),
        (["spec", "rules", 0, "when"], {"colour": "red"}, "spec.rules[0].when: a condition is "),
        (["spec", "rules", 0, "name"], "queue", "spec.rules[2].name: two rules are named 'queue'"),
        (["spec", "rules", 1, "for"], "3s", "spec.rules[1]: a crossing is a moment"),
        (
            ["spec", "rules", 2, "when"],
            {"count": {"class": "car"}},
            "spec.rules[2].when: a count needs at_least, at_most or both",
        ),
        (["spec", "rules"], [], "spec.rules: "),
        (["spec", "schedule"], {"active": "6-22"}, "spec.schedule.active[0]: write hours as"),
        (["spec", "schedule"], {"days": ["monday"]}, "spec.schedule.days[0]: "),
        (["spec", "rules", 0, "schedule"], {"hours": 1}, "spec.rules[0].schedule.hours: "),
        (["spec", "model", "scores"], {"person": 1.5}, "spec.model.scores.person: "),
        (
            ["spec", "model", "scores"],
            {"dog": 0.5},
            "spec.model.scores.dog: class 'dog' is not in spec.model.classes",
        ),
        (
            ["spec", "rules", 0, "when", "while"],
            {"count": {"class": "dog"}, "at_most": 0},
            "spec.rules[0].when.while.count.class: class 'dog' is not in spec.model.classes",
        ),
        (["spec", "rules", 0, "min_visit"], "soon", "spec.rules[0].min_visit: 'soon' is no dura"),
        (["spec", "rules", 0, "min_visit"], 0, "spec.rules[0].min_visit: "),
        (["spec", "priority"], "urgent", "spec.priority: "),
        (["spec", "decode"], "some", "spec.decode: "),
        (["spec", "masks"], {"Clock": [[0, 0], [1, 0], [1, 1]]}, "spec.masks.Clock: use 1 to"),
        (["spec", "masks"], {"clock": [[0, 0], [1, 0]]}, "spec.masks.clock: needs at least 3"),
        (
            ["spec", "masks"],
            {"clock": [[0, 0], [1, 1], [0.5, 0.5]]},
            "spec.masks.clock: the polygon encloses no area",
        ),
        (
            ["spec", "blur"],
            {"door": [[0, 0], [1, 1], [0.5, 0.5]]},
            "spec.blur.door: the polygon encloses no area",
        ),
        (["spec", "plates"], {"in": "yard"}, "spec.plates.in: no zone 'yard' in spec.zones"),
        (
            ["spec", "plates"],
            {"classes": ["lorry"]},
            "spec.plates.classes: class 'lorry' is not in spec.model.classes",
        ),
        (["spec", "plates"], {"keep": "all"}, "spec.plates.keep: "),
        (["spec", "plates"], {"pattern": "[A-Z]+"}, "spec.plates.pattern: "),
        (["spec", "plates"], {"min_score": 1.5}, "spec.plates.min_score: "),
    ],
)
def test_a_mistake_is_named_by_its_path(path: list[str | int], value: Any, expected: str) -> None:
    """Each mistake is refused with the path as the operator wrote it."""
    with pytest.raises(specs.SpecError) as refused:
        specs.parse(changed(path, value))
    assert any(str(p).startswith(expected) for p in refused.value.problems), str(refused.value)


def test_what_decoding_may_be_told_has_defaults_that_change_no_document() -> None:
    """A task and a stream without the newer fields keep their bytes, and so their digests."""
    task, plain = specs.parse(TASK), camera("rtsp://10.0.0.9/main")
    assert isinstance(task, specs.Task)
    assert (task.spec.priority, task.spec.decode, task.spec.masks) == ("normal", "adaptive", {})
    assert (task.spec.blur, task.spec.plates) == ({}, None)
    assert {rule.min_visit for rule in task.spec.rules} == {None}
    assert (
        not {"priority", "decode", "masks", "blur", "plates"} & specs.document(task)["spec"].keys()
    )
    assert b"min_visit" not in specs.canonical(task)
    stream = plain.spec.streams["main"]
    assert (stream.transport, stream.hwaccel) == ("tcp", "none")
    assert not {"transport", "hwaccel"} & specs.document(plain)["spec"]["streams"]["main"].keys()


def test_what_rules_may_be_told_has_defaults_that_change_no_document() -> None:
    """A task without hours, scores, steps and inputs keeps its bytes, and so its digest."""
    body = specs.canonical(specs.parse(TASK))
    for word in (b"schedule", b"scores", b"update_every", b"procedure", b"while"):
        assert word not in body


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "r", "when": {"class": "car", "in": "queue", "while": {"input": "n", "is": "up"}}},
        {"name": "r", "when": {"input": "tank-2", "above": 87.5, "max_age": "30s"}},
        {
            "name": "r",
            "when": {"input": "paid", "is": False},
            "schedule": {"active": "22:00-06:00"},
        },
        {
            "name": "r",
            "procedure": {
                "begins": {"count": {"class": "truck"}, "at_least": 1},
                "steps": [
                    {"name": "a", "until": {"input": "g", "is": 1}, "within": "5m"},
                    {"name": "b", "lasts": "15m", "while": {"input": "g", "is": 1}},
                    {"name": "c", "until": {"input": "h", "is": True}, "in_order": False},
                ],
                "ends": {"input": "gate", "is": "open"},
            },
        },
    ],
    ids=["while", "limit", "hours", "procedure"],
)
def test_what_rules_are_told_is_read_and_written_back(rule: dict[str, Any]) -> None:
    """Inputs, hours and procedures survive the way to a worker, true and 1 apart."""
    task = specs.parse(changed(["spec", "rules"], [rule]))
    body = specs.canonical(task)
    assert specs.parse(json.loads(body)) == task
    assert specs.canonical(specs.parse(json.loads(body))) == body


def test_what_decoding_is_told_is_read_and_written_back() -> None:
    """Shortest visit, priority, full decoding and masks survive the way to a worker."""
    document = changed(["spec", "masks"], {"clock": [[0, 0], [0.3, 0], [0.3, 0.1]]})
    document["spec"] |= {"priority": "high", "decode": "full"}
    document["spec"]["rules"][1]["min_visit"] = "500ms"
    task = specs.parse(document)
    assert isinstance(task, specs.Task)
    assert (task.spec.priority, task.spec.decode) == ("high", "full")
    assert task.spec.masks["clock"][1] == (0.3, 0.0)
    assert task.spec.rules[1].min_visit == 0.5
    assert specs.parse(json.loads(specs.canonical(task))) == task


def test_every_mistake_is_named_at_once() -> None:
    """An operator need not find mistakes one by one."""
    document = changed(["spec", "fps"], "fast")
    document["spec"]["colour"] = "red"
    with pytest.raises(specs.SpecError) as refused:
        specs.parse(document)
    assert {specs.dotted(p.path) for p in refused.value.problems} == {"spec.fps", "spec.colour"}


def test_a_wrong_item_is_not_also_called_missing() -> None:
    """Where the only rule is wrong, the operator hears of the rule and nothing else."""
    document = changed(["spec", "rules"], [{"name": "r", "when": {"class": "car"}, "for": "soon"}])
    with pytest.raises(specs.SpecError) as refused:
        specs.parse(document)
    assert [specs.dotted(p.path) for p in refused.value.problems] == ["spec.rules[0].for"]


@pytest.mark.parametrize(
    "document", [None, [], "kind: Task", 7, {}, {"kind": ["Task"]}, {"kind": {"a": 1}}]
)
def test_what_is_no_resource_is_refused(document: object) -> None:
    """Anything but a mapping with a known kind is refused with a sentence."""
    with pytest.raises(specs.SpecError):
        specs.parse(document)


def camera(url: str, **more: str) -> specs.Camera:
    """A camera with one stream."""
    parsed = specs.parse(
        {
            "kind": "Camera",
            "metadata": {"name": "bay-2", "station": "s0042"},
            "spec": {"streams": {"main": {"url": url, **more}}},
        }
    )
    assert isinstance(parsed, specs.Camera)
    return parsed


@pytest.mark.parametrize(
    ("url", "field", "value"),
    [
        ("http://10.0.0.9/mjpg", "transport", "udp"),
        ("rtsps://10.0.0.9/main", "transport", "udp"),
        ("file:///recordings/a.mp4", "transport", "udp"),
        ("rtsp://10.0.0.9/main", "transport", "sctp"),
        ("rtsp://10.0.0.9/main", "hwaccel", ""),
        ("rtsp://10.0.0.9/main", "hwaccel", "CUDA"),
        ("rtsp://10.0.0.9/main", "hwaccel", "cuda:1"),
        ("rtsp://10.0.0.9/main", "hwaccel", "a" * 21),
    ],
)
def test_how_a_stream_comes_and_who_decodes_it_is_checked(url: str, field: str, value: str) -> None:
    """UDP is for rtsp:// alone; a device is a plain word; the error names the field."""
    with pytest.raises(specs.SpecError) as refused:
        camera(url, **{field: value})
    assert [specs.dotted(p.path) for p in refused.value.problems] == [f"spec.streams.main.{field}"]


def test_udp_and_a_device_are_told_to_the_worker() -> None:
    """A listing shows both, and a camera that is applied again keeps them."""
    made = camera("rtsp://keeper:s3cret@10.0.0.9/main", transport="udp", hwaccel="vaapi")
    stream = made.spec.streams["main"]
    assert (stream.transport, stream.hwaccel) == ("udp", "vaapi")
    again = specs.parse(specs.redacted(made))
    assert isinstance(again, specs.Camera)
    assert specs.with_kept_passwords(again, made) == made


def test_a_password_leaves_the_url_and_every_listing() -> None:
    """I11: a password within a URL is kept apart and shows in no text that people see."""
    made = camera("rtsp://keeper:hush%4077@10.0.0.9:554/main")
    stream = made.spec.streams["main"]
    assert stream.url == "rtsp://10.0.0.9:554/main"
    assert stream.username == "keeper"
    assert stream.password is not None
    assert stream.password.get_secret_value() == "hush@77"
    assert "hush" not in repr(made)
    assert "hush" not in json.dumps(specs.redacted(made))
    assert specs.parse(json.loads(specs.canonical(made))) == made


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.9:554/Streaming/101", "rtsp://10.0.0.9:554/Streaming/101"),
        ("rtsp://10.0.0.9/live?user=a&password=b", "rtsp://10.0.0.9/live?..."),
        ("rtsp://10.0.0.9/cam/user=a_password=b_channel=1.sdp", "rtsp://10.0.0.9/cam/..."),
        ("rtsp://10.0.0.9/cam/user%3Da&password%3Db", "rtsp://10.0.0.9/cam/..."),
        ("http://u:p@10.0.0.9/mjpg", "http://10.0.0.9/mjpg"),
        ("file:///recordings/a=b.mp4", "file:///recordings/a=b.mp4"),
    ],
)
def test_a_listing_shows_no_secret_of_a_url_and_can_be_applied_again(url: str, shown: str) -> None:
    """I11: users, queries and paths that set values are cut, and come back when applied."""
    stored = camera(url)
    listed = specs.redacted(stored)
    assert listed["spec"]["streams"]["main"]["url"] == shown
    again = specs.parse(listed)
    assert isinstance(again, specs.Camera)
    assert specs.with_kept_passwords(again, stored) == stored


@pytest.mark.parametrize(
    "url",
    [
        "ftp://keeper:s3cret@host/x",
        "rtsp://",
        "file://host/x",
        "not a url",
        "rtsp://[::1",
        "rtsp://keeper:pa/s3cret@host/x",
        "rtsp://keeper:12/s3cret@host/x",
        "rtsp://keeper:pa#s3cret@host/x",
        "rtsp://keeper:pa?s3cret@host/x",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    """A refused URL is named by its field; what it held is not repeated."""
    with pytest.raises(specs.SpecError) as refused:
        camera(url)
    assert "s3cret" not in str(refused.value)
    assert specs.dotted(refused.value.problems[0].path).startswith("spec.streams.main")


def test_a_listing_applied_again_keeps_the_password() -> None:
    """What was read without its password can be applied; another host does not get it."""
    stored = camera("rtsp://keeper:s3cret@10.0.0.9/main")
    listed = specs.parse(specs.redacted(stored))
    assert isinstance(listed, specs.Camera)
    assert specs.with_kept_passwords(listed, stored) == stored
    elsewhere = camera("rtsp://10.9.9.9/main", username="keeper")
    moved = specs.with_kept_passwords(elsewhere, stored)
    assert moved.spec.streams["main"].password is None


def test_the_schema_knows_every_kind() -> None:
    """Editors get one JSON Schema that names all resources."""
    schema = specs.schema()
    assert set(schema["discriminator"]["mapping"]) == set(specs.KINDS)


def test_a_zone_may_cross_itself() -> None:
    """A bow tie holds two triangles, though the areas of its halves cancel out."""
    tie = [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]
    assert isinstance(specs.parse(changed(["spec", "zones", "tie"], tie)), specs.Task)
