"""What the machine lets this worker use: cores and memory, as its cgroups and the kernel say.

Here: reading limits. Not here: dividing them among shards and streams (budget).

A limit of a cgroup holds for all below it, so those from the process's own cgroup up to the root
count, and the strictest wins. Where they lie is read from the mounts: within a container only its
own part of the tree may be mounted, whatever the process's path says.
Sources: cgroups(7), proc_pid_mountinfo(5), the kernel's admin-guide/cgroup-v2 (`cpu.max`,
`memory.max`) and scheduler/sched-bwc (`cpu.cfs_quota_us`).
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MOST_THREADS = 4
"""More threads of a small network mostly wait for each other."""
_ROOT = Path("/")
_UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as a number near 2**63."""


def cores(option: float | None = None, root: Path = _ROOT, allowed: int | None = None) -> float:
    """How many cores this worker may use: the strictest of all limits and the operator's option.

    `root` holds `proc` and what it names; `allowed` is the number of cores that the kernel may run
    us on (the process's own affinity, unless given).
    """
    limits = [float(len(os.sched_getaffinity(0)) if allowed is None else allowed)]
    limits += () if option is None else (option,)
    for folder in _folders(root, "cpu"):
        quota_us, period_us = _quota(folder)
        if quota_us > 0 and period_us > 0:
            limits.append(quota_us / period_us)
    return min(limits)


def threads(cores: float, shards: int) -> int:
    """How many threads one inference of each decode process may use, at most `MOST_THREADS`."""
    return max(1, min(MOST_THREADS, int(cores / shards)))


def memory_bytes(root: Path = _ROOT) -> int | None:
    """The most memory that this worker's processes may use together; None if nothing limits it."""
    limits = []
    for folder in _folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit_bytes = _number(_text(folder / name))
            if 0 < limit_bytes < _UNLIMITED_BYTES:
                limits.append(limit_bytes)
    return min(limits, default=None)


def _quota(folder: Path) -> tuple[int, int]:
    """(quota, period) in microseconds; a quota of -1 is none."""
    words = _text(folder / "cpu.max").split()
    if words:
        return _number(words[0]), _number(words[-1])
    return (
        _number(_text(folder / "cpu.cfs_quota_us")),
        _number(_text(folder / "cpu.cfs_period_us")),
    )


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """This process's cgroups from its own up to the top of what is mounted, of both versions."""
    paths = dict(_paths(_text(root / "proc/self/cgroup")))
    for kind, top, mounted_at in _mounts(_text(root / "proc/self/mountinfo"), controller):
        path = paths.get("" if kind == "cgroup2" else controller)
        if path is None:
            continue
        below = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
        if ".." in below.parts:  # it lies outside of what our namespace shows
            below = PurePosixPath()
        for part in (below, *below.parents):
            yield root / mounted_at.lstrip("/") / part


def _paths(text: str) -> Iterator[tuple[str, PurePosixPath]]:
    """(controller, the process's path in its tree); version 2's controller is ""."""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            yield controller, PurePosixPath(path)


def _mounts(text: str, controller: str) -> Iterator[tuple[str, PurePosixPath, str]]:
    """(file system, the part of the tree that is mounted, where) of each tree that may limit it."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, last = before.split(), after.split()
        if len(fields) < 5 or len(last) < 3:
            continue
        if last[0] == "cgroup2" or (last[0] == "cgroup" and controller in last[2].split(",")):
            yield last[0], PurePosixPath(_plain(fields[3])), _plain(fields[4])


def _plain(word: str) -> str:
    """A path as it is: spaces are written as \\040 there."""
    return word.replace("\\040", " ")


def _text(file: Path) -> str:
    """A file of the kernel; "" where there is none, as on a machine without that controller."""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(word: str) -> int:
    """A number of the kernel; -1 for `max` and for what is none: no limit."""
    try:
        return int(word)
    except ValueError:
        return -1
