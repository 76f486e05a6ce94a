"""Which worker does which task: pure, and the same answer whoever asks.

Rendezvous hashing by the camera's name: all tasks of a camera are together, so that one decode
serves them; a worker that comes or goes moves only the cameras that it gains or had; and silence
moves nothing, because nothing here knows of presence.
"""

import hashlib
from collections.abc import Iterable, Sequence


def place(tasks: Iterable[tuple[str, str]], workers: Sequence[str]) -> dict[str, str | None]:
    """The worker of each task of one station, from (task, camera) pairs; None without workers."""
    placed = list(tasks)
    chosen = {camera: worker_of(camera, workers) for _, camera in placed}
    return {task: chosen[camera] for task, camera in placed}


def worker_of(camera: str, workers: Sequence[str]) -> str | None:
    """The worker that weighs most for this camera; None without workers."""
    return max(workers, key=lambda worker: _weight(worker, camera), default=None)


def _weight(worker: str, camera: str) -> tuple[bytes, str]:
    return hashlib.sha256(f"{worker}\0{camera}".encode()).digest(), worker
