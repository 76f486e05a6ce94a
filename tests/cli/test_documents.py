"""Files with resources: what is read, and what is said of what is wrong."""

import json
from pathlib import Path

import pytest

from cli import documents
from cli.errors import BAD_INPUT, CommandError

STATION = "kind: Station\nmetadata: {name: s1}\n"
TASK = """\
kind: Task
metadata: {name: bay-2, station: s1}
spec:
  camera: yard
  model: {name: nano}
  zones: {pump: [[0, 0], [1, 0], [1, 1]]}
  rules: [{name: overstay, when: {class: car, in: gate}, for: 10m}]
"""


def problems(tmp_path: Path, content: str, name: str = "bay.yaml") -> str:
    """What is said of a file that must be refused."""
    (tmp_path / name).write_text(content)
    with pytest.raises(CommandError) as caught:
        documents.read([name])
    assert caught.value.exit_code == BAD_INPUT
    return str(caught.value)


def test_a_problem_names_file_document_resource_and_field(tmp_path: Path) -> None:
    """The sentence must lead to the line that is to be changed."""
    said = problems(tmp_path, f"{STATION}---\n{TASK}")
    assert said == (
        "bay.yaml:doc 2 (Task bay-2): spec.rules[0].when.in: no zone 'gate' in spec.zones"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("kind: Station\nmetadata: {name: s1, name: s2}\n", "'name' is written twice"),
        ("kind: Pump\nmetadata: {name: s1}\n", "doc 1 (Pump s1): kind: 'Pump' is none of Station"),
        ("kind: Station\nmetadata: {name: S_1}\n", "metadata.name"),
        ("kind: Station\nmetadata: [\n", "line 3, column 1"),
        ("kind: Station\nmetadata: {name: s1}\nfoo: 1\n", "foo: unknown key"),
        (f"{STATION}---\n{STATION}", "station/s1 is also written in bay.yaml:doc 1"),
        ("---\n---\n", "no documents in bay.yaml"),
        ("- 1\n", "a resource is a mapping"),
        ("kind: !!python/object:os.system {}\n", "without its !tag"),
        ("a: &a [1]\nb: &b [*a,*a]\n" + "".join(
            f"c{i}: &c{i} [{','.join(['*c' + str(i - 1) if i else '*b'] * 9)}]\n"
            for i in range(9)), "write this out, without *alias"),
        ("a: &a [*a]\n", "without *alias"),
        ("[" * 5000, "nested too deeply"),
    ],
)  # fmt: skip
def test_bad_yaml_is_refused_in_one_sentence(tmp_path: Path, content: str, expected: str) -> None:
    """Whatever is wrong is said with its place; nothing is guessed and nothing explodes."""
    said = problems(tmp_path, content)
    assert expected in said
    assert said.startswith(("bay.yaml", "no documents"))


def test_json_files_hold_one_resource_or_a_list(tmp_path: Path) -> None:
    """JSON is read as JSON, duplicate keys refused as in YAML."""
    station = {"kind": "Station", "metadata": {"name": "s1"}}
    (tmp_path / "a.json").write_text(json.dumps(station, indent="\t"))
    (tmp_path / "b.json").write_text(json.dumps([{"kind": "Station", "metadata": {"name": "s2"}}]))
    assert [each.resource.metadata.name for each in documents.read(["a.json", "b.json"])] == [
        "s1", "s2",
    ]  # fmt: skip
    assert "'kind' is written twice" in problems(tmp_path, '{"kind": 1, "kind": 2}', "c.json")


def test_a_folder_is_read_by_name_and_ordered_by_need(tmp_path: Path) -> None:
    """Stations come before tasks, whatever the files are called."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "1.yaml").write_text(TASK.replace("gate", "pump"))
    (folder / "2.yml").write_text(STATION)
    (folder / "notes.txt").write_text("not read")
    assert [documents.label(each.resource) for each in documents.read(["site"])] == [
        "station/s1", "task/s1/bay-2",
    ]  # fmt: skip


def test_sizes_are_capped(tmp_path: Path) -> None:
    """A file above 1 MiB is refused before it is parsed."""
    assert "above the cap of 1048576 bytes" in problems(tmp_path, "#" * (1024 * 1024 + 1))


def test_a_missing_file_and_no_text_are_said_plainly(tmp_path: Path) -> None:
    """Both are bad input with the file's name."""
    (tmp_path / "raw.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandError) as caught:
        documents.read(["gone.yaml", "raw.yaml"])
    assert str(caught.value).splitlines() == [
        "gone.yaml: it cannot be read: No such file or directory",
        "raw.yaml: it is no UTF-8 text",
    ]
