"""What every benchmark here does alike: its flags, its folder, its one line of JSON.

Stdout holds one JSON object on its last line; progress goes to stderr. Everything is on loopback,
and every process that is started is ended by its id. Not here: what is measured.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that all have."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="one JSON object on stdout's last line")
    made.add_argument(
        "--folder", type=Path, default=ROOT / ".bench", help="where data goes: a real disk [.bench]"
    )
    return made


def require_mosquitto() -> None:
    """Exits with 2 and a sentence where Mosquitto is missing."""
    if shutil.which("mosquitto") is None and shutil.which("mosquitto", path=_SBIN) is None:
        print("this benchmark needs Mosquitto: apt-get install mosquitto", file=sys.stderr)
        raise SystemExit(2)


def require_ffmpeg() -> None:
    """Exits with 2 and a sentence where FFmpeg's program is missing."""
    if shutil.which("ffmpeg") is None:
        print("this benchmark needs FFmpeg's program: apt-get install ffmpeg", file=sys.stderr)
        raise SystemExit(2)


@contextmanager
def folder(given: argparse.Namespace) -> Iterator[Path]:
    """A fresh folder on the disk that is measured; removed afterwards."""
    given.folder.mkdir(parents=True, exist_ok=True)
    # Our programs are started as modules from the root of the repository.
    os.chdir(ROOT)
    made = Path(tempfile.mkdtemp(prefix="run-", dir=given.folder.resolve()))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def let_run(seconds: float) -> None:
    """Let what is measured go on for so long."""
    time.sleep(seconds)


def say(text: str) -> None:
    """Progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def finish(result: dict[str, Any], given: argparse.Namespace) -> None:
    """Print the result: for programs, or line by line for people."""
    whole = {**result, "cpus": os.cpu_count(), "machine": platform.machine()}
    if given.json:
        print(json.dumps(whole), flush=True)
        return
    for name, value in whole.items():
        print(f"{name:32} {value}")


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -(-int(share * 100) * len(ranked) // 100) - 1))]


def peak_rss_mb(pid: int) -> float:
    """The most memory that a living process ever had, in MB of a million bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    raise ValueError(f"process {pid} says nothing of its memory")
