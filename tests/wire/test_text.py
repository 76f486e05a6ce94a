"""YAML as operators write it: what is refused and where, and what is written comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.text import MAX_BYTES, OneLine, TextError, read, write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fps: 5\nfps: 50", "line 2, column 1: 'fps' is written twice"),
        ("a: &a [1]\nb: *a", "line 2, column 4: write this out, without *alias"),
        ("a: &a [*a]", "line 1, column 8: write this out, without *alias"),
        ("a: !!bool x", "line 1, column 4: write this without its !tag"),
        ("a: !!python/object:os.system {}", "line 1, column 4: write this without its !tag"),
        ("a: 2001-02-31", "line 1, column 4: this cannot be read: "),
        ("a: " + "9" * 5000, "line 1, column 4: this cannot be read: "),
        ("? [a]\n: 1", "line 1, column 3: found unhashable key"),
        ("a: [", "line 1, column 5: "),
        ("[" * 5000, "it is nested too deeply"),
        ("a: \x00", "unacceptable character"),
    ],
)  # fmt: skip
def test_what_is_no_plain_text_is_refused_with_its_place(text: str, expected: str) -> None:
    """Nothing is lost silently, nothing grows, and the place is that of the fault."""
    with pytest.raises(TextError) as refused:
        read(text.encode())
    assert str(refused.value).startswith(expected)


def test_caps_and_encoding_are_judged_before_the_text() -> None:
    """A large text is not parsed, and bytes that are no UTF-8 are said to be none."""
    with pytest.raises(TextError, match=f"above the cap of {MAX_BYTES} bytes"):
        read(b"{" * (MAX_BYTES + 1))
    with pytest.raises(TextError, match="no UTF-8"):
        read(b"\xff\xfe\x00")


def test_documents_come_in_order_without_empty_ones() -> None:
    """Each with its content, and with the line of every part that is written."""
    first, second = read(b"\xef\xbb\xbfa: 1\n---\n---\nb:\n- c: 2\n")
    assert (first.content, second.content) == ({"a": 1}, {"b": [{"c": 2}]})
    assert second.line_of(("b", 0, "c")) == 5
    assert second.line_of(("b", 7)) == 4
    assert second.line_of(("z",)) is None


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), PLAIN, min_size=1, max_size=4))
def test_what_is_written_reads_the_same(document: dict[str, object]) -> None:
    """Whatever the words are, a reader gets back what was given."""
    (found,) = read(write(document).encode())
    assert found.content == document


def test_points_stand_on_one_line() -> None:
    """Lists of plain values do, mappings only if they are asked to."""
    zone = [[0.05, 0.3], [0.95, 0.3], [0.95, 0.98]]
    assert write({"bay": zone, "when": OneLine({"class": "car"}), "rules": [{"a": [1]}]}) == (
        "bay: [[0.05, 0.3], [0.95, 0.3], [0.95, 0.98]]\n"
        "when: {class: car}\n"
        "rules:\n- a: [1]\n"
    )  # fmt: skip
