"""The documents say what the code does: keys, topics, links, commands."""

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import typer
from rich.text import Text

import center.__main__
import cli.__main__
import edge.__main__
from center.config import ServeConfig
from edge.config import Config
from wire import specs, text
from wire.topics import DownChannel, UpChannel

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*.md")]
)


def test_every_configuration_key_is_documented() -> None:
    """A key of a process stands in the reference, and no other."""
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    edge, center = text.split("## forecourt-center serve")
    documented = [set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)) for part in (edge, center)]
    assert documented[0] == set(Config.model_fields)
    assert documented[1] == set(ServeConfig.model_fields)


def test_every_topic_is_documented() -> None:
    """The protocol's reference names each channel."""
    text = (ROOT / "docs" / "reference" / "protocol.md").read_text()
    for channel in get_args(UpChannel):
        assert f"up/…/{channel}`" in text, channel
    for channel in get_args(DownChannel):
        assert f"dn/…/{channel}`" in text, channel


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the repository names one that is there."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_resources_are_resources(page: Path) -> None:
    """What a page shows as a resource can be applied as it stands."""
    for example in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for document in text.read(example.encode()):
            if isinstance(document.content, dict) and "kind" in document.content:
                specs.parse(document.content)


def test_the_map_names_files_that_exist() -> None:
    """Paths in ARCHITECTURE.md are paths."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for path in re.findall(r"`((?:center|cli|edge|models|tests|wire)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("app", [cli.__main__.app, center.__main__.app, edge.__main__.app])
def test_help_loses_no_words(app: typer.Typer) -> None:
    """What stands in brackets is no markup: it is shown."""
    commands = [typer.main.get_command(app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            said = getattr(parameter, "help", None) or ""
            assert Text.from_markup(said).plain.count("[") == said.count("["), said


def test_make_targets_of_the_readme_exist() -> None:
    """What the README tells to run is in the Makefile."""
    listed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in re.findall(r"make (\w+)", (ROOT / "README.md").read_text()):
        assert f"make {target} " in listed, target


def test_each_invariant_is_cited_where_it_is_proven() -> None:
    """I1 to I12 of the design stand by number in the docstrings of tests."""
    text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    cited = set(re.findall(r"\bI(\d+)\b", text))
    assert {str(number) for number in range(1, 13)} <= cited
