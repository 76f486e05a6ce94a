"""`python -m edge.model_trial`: loads one network, tries it, says what came of it, and ends.

Here: a program of its own, since a network may crash the runtime, hang, or take all memory, and
cameras must not notice. Not here: what a network must see (vision.trial), when it is tried
(models). The question comes as JSON on stdin: the file's path and the model's document.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.clock import SystemClock
from edge.vision.detect import Detector
from edge.vision.manifest import Manifest, ModelError
from edge.vision.trial import try_out
from wire.manifest import Network
from wire.models import MAX_DOCUMENT_BYTES, parse
from wire.specs import SpecError

MAX_QUESTION_BYTES = 2 * MAX_DOCUMENT_BYTES
_NICENESS = 10


def tried(path: Path, document: bytes, threads: int, inference: list[str]) -> dict[str, Any]:
    """The labels of a network that is good, and what it was tried on.

    Raises ModelError, SpecError.
    """
    model = parse(document)
    known = {name: getattr(model, name) for name in Network.model_fields}
    manifest = Manifest(**known, path=path)
    detector = Detector(manifest, threads=threads, inference=inference)
    outcome = try_out(detector, SystemClock())
    if not outcome.ok:
        raise ModelError(outcome.reason)
    return {"labels": list(detector.labels), "told": outcome.reason}


def main() -> None:
    """Read the question, write the answer: `{"labels": …}` or `{"error": …}`."""
    os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # memory runs out: this one goes first
    try:
        question = json.loads(sys.stdin.buffer.read(MAX_QUESTION_BYTES))
        document = json.dumps(question["model"]).encode()
        answer = tried(Path(question["path"]), document, question["threads"], question["inference"])
    except (ModelError, SpecError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "it needs more memory than this worker has"}
    except Exception as error:  # whatever it is, it is the network's
        answer = {"error": f"it cannot be tried: {type(error).__name__}: {error}"[:500]}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
