"""`python -m tests.parts.viewer`: replays recordings one after another and reports each.

Here: a process that a recording may hang or take down without harm to the tests. It reads a JSON
object on stdin, `{"files": [...], "model": "...", "task": {...}, "limit_s": 1}`, and writes one
line of JSON for each file: what came of it, or why it was refused, and how much memory it took.
"""

import json
import sys
from pathlib import Path
from typing import Any

from edge.replay import Summary, replay
from edge.video.source import SourceError
from edge.vision.detect import Detector
from edge.vision.manifest import at
from wire import specs


def _most_memory_mb() -> float:
    """The most that this process held since it was last asked."""
    status = Path("/proc/self/status").read_text()
    most = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(most.split()[1]) / 1024


def _viewed(file: str, task: specs.Task, detector: Detector, limit_s: float) -> dict[str, Any]:
    summary = Summary()
    refused = ""
    _most_memory_mb()
    try:
        events = list(
            replay(Path(file), task, detector, decode="full", limit_s=limit_s, summary=summary)
        )
    except SourceError as error:
        refused, events = str(error), []
    starts = [event.t_ms for event in events if event.phase == "start"]
    return {
        "file": file,
        "frames": summary.frames_decoded,
        "errors": summary.decode_errors,
        "refused": refused,
        "in_order": starts == sorted(starts),
        "memory_mb": round(_most_memory_mb(), 1),
    }


def main() -> None:
    """Answer the one question."""
    asked = json.load(sys.stdin)
    task = specs.parse(asked["task"])
    assert isinstance(task, specs.Task)
    detector = Detector(at(Path(asked["model"])), threads=1)
    for file in asked["files"]:
        sys.stdout.write(json.dumps(_viewed(file, task, detector, asked["limit_s"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
