"""The demo as its user runs it: one command, everything behind it, and a clean end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import clips
from tests.parts.processes import alive
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(180)


def demo(*flags: str) -> list[str]:
    """The command line of a demo on free ports."""
    ports = ("--console-port", "0", "--display-port", "0", "--broker-port", "0", "--no-browser")
    return [str(Path(sys.executable).with_name("forecourt")), "demo", *ports, *flags]


def test_the_first_event_reaches_display_and_console(tmp_path: Path) -> None:
    """`forecourt demo --smoke` says how long that took, ends everything, and exits with 0."""
    done = subprocess.run(
        demo("--smoke", "--data", str(tmp_path / "demo")),
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert 0 < said["display_s"] <= 60
    assert 0 < said["console_s"] <= 60


def test_a_demo_in_which_no_event_can_come_fails_at_once(tmp_path: Path) -> None:
    """A file that is no network: `--smoke` exits with 1 and the worker's reason, not by its end."""
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    video = clips.asset("videos/worker-zone-detection.gif")
    done = subprocess.run(
        demo(
            *("--smoke", "--timeout", "140", "--data", str(tmp_path / "demo")),
            *("--video", str(video), "--model", str(tmp_path / "broken.onnx")),
        ),
        cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "task forecourt is rejected: " in done.stderr
    assert "broken" in done.stderr


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    """After Ctrl-C the demo exits with 0, and none of its processes lives on."""
    data = tmp_path / "demo"
    log = tmp_path / "demo.log"
    with log.open("wb") as out:
        running = subprocess.Popen(
            demo("--data", str(data)),
            cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: "/login?code=" in log.read_text(), 90, "the demo prints its addresses")
        family = descendants(running.pid)
        assert len(family) >= 3
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(30) == 0, log.read_text()
    finally:
        running.kill()
        running.wait()
    wait_for(lambda: not any(map(alive, family)), 10, "no process is left over")


def descendants(pid: int) -> list[int]:
    """Process ids below a process."""
    children = [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]
