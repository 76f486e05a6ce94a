"""Every locked dependency has wheels for each Python and machine that Forecourt runs on."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MACHINES = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")
PYTHONS = ("3.11", "3.12", "3.13")
NO_NETWORK = ("error sending request", "dns error", "Failed to fetch", "tcp connect error")


def resolve(
    lock: Path, machine: str, python: str, folder: Path
) -> "subprocess.CompletedProcess[str]":
    """Ask the package index whether all of a lock file could be installed, without doing it."""
    command = [
        str(Path(sys.executable).with_name("uv")), "pip", "install", "--dry-run", "--no-deps",
        "--only-binary", ":all:", "--require-hashes", "--python-platform", machine,
        "--python-version", python, "--target", str(folder), "--requirement", str(lock),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if any(sign in done.stderr for sign in NO_NETWORK):
        pytest.skip("no package index can be reached; the wheels were not looked for")
    return done


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", ["edge", "plates", "center", "dev"])
def test_there_is_a_wheel_for_every_dependency(
    lock: str, python: str, machine: str, tmp_path: Path
) -> None:
    """No station needs a compiler, whatever its processor."""
    done = resolve(ROOT / "requirements" / f"{lock}.txt", machine, python, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_check_can_fail(tmp_path: Path) -> None:
    """A machine for which there are no wheels is found out."""
    lock = ROOT / "requirements" / "edge.txt"
    assert "no usable wheels" in resolve(lock, "s390x-unknown-linux-gnu", "3.12", tmp_path).stderr


def test_the_locks_name_hashes_and_no_address() -> None:
    """Each pinned package has hashes, and no lock file says where to download from."""
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text()
        assert "http" not in text.replace("httpcore", "").replace("httptools", "").replace(
            "httpx", ""
        ).replace("aiohttp", "")
        entries = text.replace("\\\n", "").splitlines()
        assert entries
        assert all("==" in entry and "--hash=sha256:" in entry for entry in entries), lock
