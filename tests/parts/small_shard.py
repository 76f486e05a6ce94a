"""A decode process without a decoder: `python -m tests.parts.small_shard PIPE BOX DUMP`.

It says of each stream that it runs. One whose camera's name begins with `frail` crashes the process
the first time that it is started, which a file in the folder `FORECOURT_TEST_FOLDER` remembers. One
that begins with `deaf` keeps it from listening until there is a file of that name. Each message
about inputs becomes a line of the file `heard` there.
"""

import ctypes
import faulthandler
import json
import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from edge.blackbox import Doing, Recorder, stream_name
from edge.clock import SystemClock
from edge.pipe import Apply, Beat, Finish, Finished, Inputs, Pipe
from edge.reconcile import Start, Stop, StreamKey
from wire.messages import StreamHealth

BEAT_S = 0.1


def main(descriptor: int, box: int, dump: int) -> None:
    """Obey the pipe until it closes."""
    faulthandler.enable(dump)
    pipe: Pipe = Connection(descriptor)
    recorder = Recorder(SystemClock(), box)
    running: set[StreamKey] = set()
    threading.Thread(target=_beat, args=(pipe, running), daemon=True).start()
    while True:
        match pipe.recv():
            case Apply(actions):
                for action in actions:
                    if isinstance(action, Start):
                        running.add(action.work.key)
                        _start(action.work.key, recorder)
                    elif isinstance(action, Stop):
                        running.discard(action.key)
            case Inputs(facts):
                with _marker("heard").open("a") as heard:
                    heard.write(f"{json.dumps([[f.input, f.value, f.t_ms] for f in facts])}\n")
            case Finish():
                pipe.send(Finished())


def _start(key: StreamKey, recorder: Recorder) -> None:
    slot = recorder.slot(stream_name(key.camera, key.stream))
    slot.enter(Doing.DECODING)
    marker = _marker(key.camera)
    while key.camera.startswith("deaf") and not marker.exists():
        time.sleep(0.01)
    if key.camera.startswith("frail") and not marker.exists():
        marker.touch()
        ctypes.string_at(0)
    slot.close()


def _marker(name: str) -> Path:
    return Path(os.environ["FORECOURT_TEST_FOLDER"], name)


def _beat(pipe: Pipe, running: set[StreamKey]) -> None:
    while True:
        streams = tuple(
            StreamHealth(camera=key.camera, stream=key.stream, state="running")
            for key in sorted(running)
        )
        pipe.send(Beat(streams, (), len(streams)))
        time.sleep(BEAT_S)


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except (EOFError, ConnectionError):
        os._exit(0)
