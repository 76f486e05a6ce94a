"""A task's zones, lines and rules as the text that the console's editor holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from center.console import task_text
from center.console.task_text import Finding
from wire import specs
from wire.specs import SpecError

METADATA = {"name": "t1", "station": "s1"}
FIELDS = {"camera": "c1", "model": {"name": "nano"}}

# Some are other things than words in YAML.
names = st.sampled_from(["bay", "pump-2", "0", "1e3", "null", "true", "on", "2001-01-01"])
fractions = st.floats(0, 1)
labels = st.text(min_size=1, max_size=12)
durations = st.floats(0, 31 * 86400)


def conditions(zones: list[str], lines: list[str]) -> st.SearchStrategy[dict[str, object]]:
    """Conditions over these zones and lines."""
    classes = st.lists(labels, min_size=1, max_size=3)
    place = st.fixed_dictionaries({"class": classes}, optional={"in": st.sampled_from(zones)})
    count = st.fixed_dictionaries({"count": place, "at_least": st.integers(1, 9)})
    scene = st.recursive(
        count,
        lambda part: st.one_of(
            st.builds(lambda parts: {"all": parts}, st.lists(part, min_size=1, max_size=3)),
            st.builds(lambda parts: {"any": parts}, st.lists(part, min_size=1, max_size=3)),
            st.builds(lambda one: {"not": one}, part),
        ),
        max_leaves=6,
    )
    crossing = st.fixed_dictionaries({"class": classes, "crosses": st.sampled_from(lines)})
    return st.one_of(place, scene, crossing)


@st.composite
def task_specs(draw: st.DrawFn) -> dict[str, object]:
    """What a spec has besides the form's fields."""
    zones = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    lines = draw(st.lists(names, min_size=1, max_size=2, unique=True))
    corner = draw(st.floats(0.5, 1))
    rules = []
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        when = draw(conditions(zones, lines))
        lasting = {} if "crosses" in when else {"for": draw(durations)}
        rules.append({"name": name, "when": when, "cooldown": draw(durations), **lasting})
    return {
        "zones": {zone: [[0, 0], [corner, 0], [corner, draw(st.floats(0.1, 1))]] for zone in zones},
        "lines": {line: [[0, draw(fractions)], [1, draw(fractions)]] for line in lines},
        "rules": rules,
    }


def task_of(text: str) -> specs.Resource:
    return specs.parse(task_text.document_of(METADATA, FIELDS, text))


def findings_of(text: str) -> list[Finding]:
    with pytest.raises(SpecError) as refused:
        task_of(text)
    return task_text.findings(refused.value.problems, text)


@given(task_specs())
def test_a_stored_spec_comes_back_from_its_text(spec: dict[str, object]) -> None:
    """Opening a task and saving it unchanged changes nothing, whatever its rules are."""
    stored = specs.parse({"kind": "Task", "metadata": METADATA, "spec": {**FIELDS, **spec}})
    text = task_text.text_of(specs.document(stored)["spec"])
    assert specs.canonical(task_of(text)) == specs.canonical(stored)


@given(st.text(alphabet="zones:rules- []{}\n\t'\"&*!?|>#%@`,.0159\x00é", max_size=120))
def test_any_text_is_a_task_or_a_list_of_problems(text: str) -> None:
    """However broken the text, the operator gets problems and never an error of the program."""
    try:
        task_of(text)
    except SpecError as refused:
        found = task_text.findings(refused.problems, text)
        assert found
        assert all(finding.message for finding in found)


def test_the_example_is_a_task() -> None:
    """What a new task's editor holds works as it is."""
    assert isinstance(task_of(task_text.EXAMPLE), specs.Task)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules: [", (None, "expected the node content")),
        ("zones: {}\nzones: {}", (2, "'zones' is written twice")),
        ("rules:\n- &a {name: x}\n- *a", (3, "without *alias")),
        ("fps: 3\nrules: []", (None, "a field of the form")),
        ("- 1", (None, "as in the example")),
        ("rules:\n- name: r\n  when: {class: car}\n  severity: worse", (4, "'info', 'warning'")),
        ("rules:\n- name: r\n  when:\n    class: car\n    in: bay", (5, "no zone 'bay'")),
    ],
)
def test_a_problem_names_its_line(text: str, expected: tuple[int | None, str]) -> None:
    """A problem of the text says what is wrong, and in which line."""
    line, words = expected
    (finding,) = findings_of(text)
    assert words in finding.message
    assert line is None or finding.line == line


def test_a_small_text_cannot_become_large() -> None:
    """Aliases that would multiply are refused before they are followed, and so is a long text."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "without *alias" in findings_of(bomb)[0].message
    assert "above the cap" in findings_of("#" * (task_text.MAX_TEXT_BYTES + 1))[0].message
