"""The demo's parts: its folder, processes, scene, network and wishes.

The whole of it, with center and worker, is tried by tests/flows.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cli.access import Access
from cli.api import Api
from cli.apply import applied
from cli.demo import folder, keep, network, scene, smoke, stage, wishes
from cli.demo.children import Children
from cli.demo.command import started_as
from cli.demo.scene import Scene
from cli.errors import CommandError
from tests.cli.conftest import Run
from tests.cli.fake_center import TOKEN, FakeCenter
from tests.waiting import wait_for
from wire import specs
from wire.manifest import COCO_LABELS

REPOSITORY = Path(__file__).parents[2]
FOREVER = ("-c", "import time; print('at work'); time.sleep(600)")
FLEETING = ("-c", "print('the disk is full'); raise SystemExit(3)")
LABELS = ("person", "bicycle", "car", "motorcycle", "bus", "truck")


# --- folder ------------------------------------------------------------------------------------


def test_two_demos_in_one_folder_are_refused(tmp_path: Path, run: Run) -> None:
    """The second says who has it and what to do."""
    with folder.held(tmp_path / "demo"):
        ran = run("demo", "--data", str(tmp_path / "demo"))
    assert ran.code == 1
    assert f"another demo (process {os.getpid()}) runs in {tmp_path / 'demo'}" in ran.err
    with folder.held(tmp_path / "demo"):
        pass


def test_the_center_is_announced_while_it_runs(tmp_path: Path) -> None:
    """Commands beside the folder find the center, and no longer when the demo has ended."""
    with folder.held(tmp_path / ".demo") as held:
        held.announce("http://127.0.0.1:8080")
        assert '"http://127.0.0.1:8080"' in held.address.read_text()
    assert not held.address.exists()


KILLED_DEMO = """
import sys, time
from pathlib import Path
from cli.demo import folder
from cli.demo.children import Children
with folder.held(Path(sys.argv[1])) as held, Children(held.logs, held.lock) as children:
    print(children.start("worker", ("-c", "import time; time.sleep(600)")).process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems leave orphans")
def test_a_killed_demo_leaves_no_process_and_a_free_folder(tmp_path: Path) -> None:
    """After SIGKILL its children end by themselves; the next demo waits for them and starts."""
    demo = subprocess.Popen(
        [sys.executable, "-c", KILLED_DEMO, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    with demo:
        assert demo.stdout is not None
        orphan = int(demo.stdout.readline())
        demo.kill()
    with folder.held(tmp_path):
        wait_for(lambda: not is_running(orphan), 10, "the orphan's end")


def is_running(pid: int) -> bool:
    """Whether a process lives; one that waits to be reaped by init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- children ----------------------------------------------------------------------------------


def test_a_child_that_dies_is_reported_with_its_log(tmp_path: Path) -> None:
    """What waits for something else is told at once who died, and its last words."""
    with folder.held(tmp_path) as held, Children(held.logs, held.lock) as children:
        children.start("center", FLEETING)
        with pytest.raises(CommandError) as caught:
            children.wait_for(lambda: None, time.monotonic() + 30, "nothing")
    said = str(caught.value)
    assert said.startswith("center ended with status 3")
    assert said.endswith("  the disk is full")


def test_waiting_in_vain_shows_all_logs(tmp_path: Path) -> None:
    """The deadline names what was waited for and how far each process came."""
    with folder.held(tmp_path) as held, Children(held.logs, held.lock) as children:
        worker = children.start("worker", ("-u", *FOREVER))
        wait_for(lambda: "at work" in worker.tail(), 10, "its first words")
        with pytest.raises(CommandError, match=r"waited in vain for the moon[\s\S]*at work"):
            children.wait_for(lambda: None, time.monotonic(), "the moon")


def test_leaving_ends_all_children(tmp_path: Path) -> None:
    """Also those that deal with SIGTERM in their own way and time."""
    slow = (
        "-u", "-c",
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit('in good order'))\n"
        "print('ready'); time.sleep(600)",
    )  # fmt: skip
    with folder.held(tmp_path) as held:
        with Children(held.logs, held.lock) as children:
            first, second = children.start("center", slow), children.start("worker", slow)
            wait_for(lambda: "ready" in first.tail(), 10, "the first")
            wait_for(lambda: "ready" in second.tail(), 10, "the second")
        assert (first.process.poll(), second.process.poll()) == (1, 1)
        for child in (first, second):
            assert "in good order" in child.tail()


def test_children_get_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's token for another center stays out of the demo's processes."""
    monkeypatch.setenv("FORECOURT_TOKEN", "secret-of-another")
    monkeypatch.setenv("FORECOURT_CENTER_LISTEN", "0.0.0.0:80")
    monkeypatch.setenv("FORECOURT_DEMO_VIDEO", "rtsp://me:secret@10.0.0.5/main")
    with folder.held(tmp_path) as held, Children(held.logs, held.lock) as children:
        child = children.start("env", ("-c", "import os; print(dict(os.environ))"), service=False)
        child.process.wait(20)
        assert "PATH" in child.tail()
        assert "secret" not in child.tail()
        assert "0.0.0.0" not in child.tail()


# --- scene, network, wishes --------------------------------------------------------------------


def test_a_visitors_video_is_read_where_it_lies(tmp_path: Path) -> None:
    """Its folder is what the worker may read; spaces in its name do no harm."""
    video = tmp_path / "my yard.mp4"
    video.write_bytes(b"")
    with folder.held(tmp_path / "demo") as held:
        for given in (str(video), video.as_uri()):
            found = scene.find(given, held)
            assert found.recordings == tmp_path
            assert found.stream["url"] == f"file://{tmp_path}/my%20yard.mp4"
        camera = scene.find("rtsp://me:secret@10.0.0.5/main", held)
        assert "secret" not in repr(camera)
        for bad in ("gone.mp4", "gopher://x/y"):
            with pytest.raises(CommandError, match="--video"):
                scene.find(bad, held)


def test_the_environment_may_name_the_video(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a URL with a password need not stand on a command line."""
    monkeypatch.setenv("FORECOURT_DEMO_VIDEO", "gone.mp4")
    ran = run("demo")
    assert ran.code == 2
    assert "there is no file" in ran.err


def test_a_bare_network_is_taken_for_coco(tmp_path: Path) -> None:
    """A file without a manifest gets a name that a task may use."""
    file = tmp_path / "YOLOX_nano v2.onnx"
    file.write_bytes(b"onnx")
    with folder.held(tmp_path / "demo") as held:
        found = network.find(file, held)
        assert (found.name, found.labels) == ("yolox-nano-v2", COCO_LABELS)
        assert (found.folders[0] / "yolox-nano-v2.onnx").read_bytes() == b"onnx"
        with pytest.raises(CommandError, match="--model"):
            network.find(tmp_path / "gone.onnx", held)


def test_a_network_with_a_manifest_keeps_it(tmp_path: Path) -> None:
    """Name and labels are the manifest's, which travels with the file."""
    (tmp_path / "model.toml").write_text(
        'name = "fire"\nfile = "f.onnx"\nlabels = ["flame", "smoke"]\n'
    )
    (tmp_path / "f.onnx").write_bytes(b"onnx")
    with folder.held(tmp_path / "demo") as held:
        found = network.find(tmp_path / "f.onnx", held)
        assert (found.name, found.labels) == ("fire", ("flame", "smoke"))
        assert sorted(p.name for p in (held.models / "fire").iterdir()) == ["f.onnx", "model.toml"]


RENDERED = Scene(
    {"url": "file:///r/forecourt.mp4", "loop": True}, Path("/r"), rendered=True,
    zones={"unload": [[0, 0], [1, 0], [1, 1]], "pump-1": [[0, 0], [1, 0], [1, 1]]},
    lines={"exit": [[0, 0], [1, 1]]},
)  # fmt: skip
OWN = Scene({"url": "rtsp://me:secret@10.0.0.5/main"}, Path("/r"), rendered=False)


@pytest.mark.parametrize(
    ("watched", "labels", "rules"),
    [
        (RENDERED, LABELS, ["person-at-unloading", "drive-out", "overstay-pump-1", "two-cars"]),
        (RENDERED, ("person",), ["person-at-unloading"]),
        (OWN, LABELS, ["person", "vehicle", "cross-middle-x", "cross-middle-y"]),
        (OWN, ("flame", "smoke"), ["something"]),
    ],
)
def test_wishes_fit_the_network_and_are_valid(
    watched: Scene, labels: tuple[str, ...], rules: list[str]
) -> None:
    """Whatever is looked at, the documents pass the contract and ask for known labels only."""
    found = wishes.documents(watched, network.Network("nano", labels, ()))
    assert [each.resource.kind for each in found] == ["Station", "Worker", "Camera", "Task"]
    task = found[-1].resource
    assert task.kind == "Task"
    assert [rule.name for rule in task.spec.rules] == rules


# --- what is kept of the operator's ---------------------------------------------------------------


@dataclass(frozen=True)
class Starts:
    """Starts of a demo in one folder, as far as the center's resources go."""

    held: folder.Folder
    api: Api

    def start(
        self, watched: Scene = RENDERED, name: str = "nano", *, reset: bool = False
    ) -> list[str]:
        """The kinds that were put."""
        net = network.Network(name, LABELS, ())
        now = keep.memory(watched, net)
        wanted = wishes.documents(watched, net)
        due = keep.due(self.api, wanted, keep.recall(self.held), now, reset=reset)
        assert not any(outcome.refused for outcome in applied(self.api, due, dry_run=False))
        keep.remember(self.held, now)
        return [each.resource.kind for each in due]


@pytest.fixture
def starts(center: FakeCenter, tmp_path: Path) -> Iterator[Starts]:
    """A demo's folder and its center."""
    with folder.held(tmp_path / "demo") as held, Api(Access(center.url, TOKEN)) as api:
        yield Starts(held, api)


def edit_task(center: FakeCenter) -> specs.Resource:
    """The operator makes the demo's task slower."""
    path = f"/stations/{wishes.STATION}/tasks/{wishes.TASK}"
    task = center.stored[path]
    assert isinstance(task, specs.Task)
    center.stored[path] = task.model_copy(
        update={"spec": task.spec.model_copy(update={"fps": 2.0})}
    )
    return center.stored[path]


def test_a_start_again_keeps_what_the_operator_changed(
    starts: Starts, center: FakeCenter, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says so; --reset puts the demo's own."""
    assert starts.start() == ["Station", "Worker", "Camera", "Task"]
    assert starts.start() == []
    assert capsys.readouterr().err == ""
    mine = edit_task(center)
    assert starts.start() == []
    assert mine in center.stored.values()
    assert capsys.readouterr().err == "your task is kept; --reset restores the demo's\n"
    assert starts.start(reset=True) == ["Station", "Worker", "Camera", "Task"]
    assert mine not in center.stored.values()


def test_another_video_or_model_is_what_the_visitor_wants_now(
    starts: Starts, center: FakeCenter
) -> None:
    """Then the task is the demo's again; a folder that moved changes the camera only."""
    starts.start()
    edit_task(center)
    moved = replace(RENDERED, stream={"url": "file:///elsewhere/forecourt.mp4", "loop": True})
    assert starts.start(moved) == ["Camera"]
    assert starts.start(OWN) == ["Camera", "Task"]
    assert starts.start(OWN, "tiny") == ["Camera", "Task"]
    assert starts.start(OWN, "tiny") == []
    assert "secret" not in starts.held.given.read_text()
    assert starts.held.given.stat().st_mode & 0o077 == 0


def test_the_banner_names_the_command_as_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name where the shell finds it, else the path that is shorter from here."""
    program = tmp_path / ".venv" / "bin" / "forecourt"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    assert started_as(".venv/bin/forecourt", tmp_path) == ".venv/bin/forecourt"
    assert started_as(str(program), tmp_path) == ".venv/bin/forecourt"
    monkeypatch.setenv("PATH", str(program.parent))
    assert started_as(str(program), tmp_path) == "forecourt"


# --- ports, smoke ------------------------------------------------------------------------------


def test_a_fixed_port_that_is_taken_is_refused(run: Run, tmp_path: Path) -> None:
    """Nothing is started, and the option to change is named."""
    (tmp_path / "v.mp4").write_bytes(b"")
    (tmp_path / "m.onnx").write_bytes(b"")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = run("demo", "--video", "v.mp4", "--model", "m.onnx", "--console-port", port)
    assert ran.code == 1
    assert f"port {port} for the console is in use: give another --console-port" in ran.err


def test_any_port_where_the_nice_one_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """Another program on 8080 does not keep the demo from starting, and that is said."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else has it, which is as good
            taken.bind(("127.0.0.1", stage.NICE_PORTS["console"]))
            taken.listen()
        assert stage.port_for("console", None) == 0
    assert "port 8080 for the console is in use" in capsys.readouterr().err
    assert stage.port_for("console", 0) == 0


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('[{"id":12,"severity":"info","t_ms":1700},{"id":11,"t_ms":1600}]', True),
        ('[{"id":11,"severity":"info","t_ms":1700},{"id":12,"t_ms":1600}]', False),
        ("{&quot;id&quot;:12,&quot;t_ms&quot;:1700}", True),
        ('{\\"id\\": 12, \\"t_ms\\": 1700}', True),
        ('{"id":12}', False),
        ('{"id":123,"t_ms":1700}', False),
        ('{"id":12,"t_ms":17001}', False),
        ("", False),
    ],
)
def test_whether_a_page_names_an_event(page: str, expected: bool) -> None:
    """Number and time of another event, apart from each other, are no sign of it."""
    assert smoke.names(page, {"id": 12, "t_ms": 1700}) is expected


def test_signals_are_given_back(run: Run, tmp_path: Path) -> None:
    """A demo that could not start leaves the process's signal handlers as they were."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run("demo", "--video", "gone.mp4").code == 2
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
