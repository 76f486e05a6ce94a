"""What a model.toml may say, and what is assumed without one."""

import pytest

from wire.manifest import MAX_MANIFEST_BYTES, Input, Output, bare, parse
from wire.specs import SpecError

LEAST = 'name = "nano"\nfile = "nano.onnx"\n'


def test_little_is_needed() -> None:
    """Name and file; size and checksum may be unknown, and keys of others do no harm."""
    manifest = parse((LEAST + 'size_bytes = 0\nsha256 = ""\n[measured]\nmap = 0.5\n').encode())
    assert (manifest.layout, manifest.size_bytes, manifest.sha256) == ("auto", 0, "")
    assert (manifest.labels, manifest.input, manifest.output) == ((), Input(), Output())
    assert parse((LEAST + f'sha256 = "{"AB" * 32}"').encode()).sha256 == "ab" * 32


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (b'name = "Nano"', ["name: use 1 to 63", "file: is missing"]),
        ((LEAST + "size_bytes = true").encode(), ["size_bytes: Input should be a valid integer"]),
        ((LEAST + '[input]\npad = 300').encode(), ["input.pad: "]),
        (
            (LEAST + "[input]\nscale = inf\nmean = [nan, 0, 0]").encode(),
            ["input.scale: ", "input.mean[0]: "],
        ),
        (b"name = ", ["no valid TOML: "]),
        (b"\xff", ["it is no UTF-8 text"]),
        (b"a = " + b"[" * 5000, ["it is nested too deeply"]),
        (b"#" * (MAX_MANIFEST_BYTES + 1), ["it is above the cap of 262144 bytes"]),
    ],
    ids=["fields", "bool", "input", "endless", "syntax", "bytes", "nested", "large"],
)  # fmt: skip
def test_every_problem_is_told_with_its_key(content: bytes, problems: list[str]) -> None:
    """Whoever wrote the manifest is led to each key that is wrong."""
    with pytest.raises(SpecError) as refused:
        parse(content)
    told = [str(problem) for problem in refused.value.problems]
    assert len(told) == len(problems)
    assert all(one.startswith(start) for one, start in zip(told, problems, strict=True))


def test_a_bare_file_has_a_name_that_tasks_can_write() -> None:
    """And its classes are those that its graph says."""
    assert [bare(stem).name for stem in ("YOLOX_nano v2", "yolox_nano", "___")] == [
        "yolox-nano-v2", "yolox-nano", "model",
    ]  # fmt: skip
    assert bare("x").labels == ()
