"""The worker's cores and memory, read from the kernel's files as machines have them."""

from pathlib import Path

import pytest

from edge.cpus import cores, memory_bytes, threads

V2 = "30 23 0:26 {top} {at} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:27 {top} {at} rw,nosuid shared:9 - cgroup cgroup rw,{controllers}"


class Machine:
    """The kernel's files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw\n")

    def write(self, path: str, text: str) -> None:
        """One file."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def mount(self, line: str, **words: str) -> None:
        """One more line of mounts."""
        mounts = self.root / "proc/self/mountinfo"
        mounts.write_text(mounts.read_text() + line.format(**words) + "\n")

    def cores(self, option: float | None = None) -> float:
        """What a worker on this machine of 8 cores may use."""
        return cores(option, self.root, allowed=8)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without cgroups."""
    return Machine(tmp_path)


def test_without_cgroups_all_cores_count(machine: Machine) -> None:
    """A machine whose kernel limits nothing: the affinity, or less if the operator says so."""
    assert machine.cores() == 8
    assert machine.cores(option=2.5) == 2.5
    assert machine.cores(option=64) == 8
    assert memory_bytes(machine.root) is None
    assert 1 <= cores() <= 4096


def test_version_2_counts_every_level(machine: Machine) -> None:
    """The strictest limit between the own cgroup and the root wins; `max` is none."""
    machine.write("proc/self/cgroup", "0::/pods.slice/pod7/worker\n")
    machine.mount(V2, top="/", at="/sys/fs/cgroup")
    tree = "sys/fs/cgroup/pods.slice"
    machine.write(f"{tree}/pod7/worker/cpu.max", "max 100000\n")
    machine.write(f"{tree}/pod7/cpu.max", "150000 100000\n")
    machine.write(f"{tree}/cpu.max", "400000 100000\n")
    machine.write(f"{tree}/pod7/worker/memory.max", "max\n")
    machine.write(f"{tree}/memory.max", "536870912\n")
    assert machine.cores() == 1.5
    assert machine.cores(option=1.0) == 1.0
    assert memory_bytes(machine.root) == 512 * 1024 * 1024


@pytest.mark.parametrize(
    ("path", "top"),
    [
        ("/", "/"),  # the container has a cgroup namespace
        ("/kubepods/pod7/x", "/kubepods/pod7/x"),  # it has none, and sees only its own part
        ("/kubepods/pod7/x", "/"),  # the mounts' tops are hidden from it
        ("/../../elsewhere", "/"),
    ],
)
def test_a_container_sees_its_own_part(machine: Machine, path: str, top: str) -> None:
    """The limit at the top of what is mounted counts, whatever the process's path says."""
    machine.write("proc/self/cgroup", f"0::{path}\n")
    machine.mount(V2, top=top, at="/sys/fs/cgroup")
    machine.write("sys/fs/cgroup/cpu.max", "50000 100000\n")
    machine.write("sys/fs/cgroup/memory.max", "1000000\n")
    assert machine.cores() == 0.5
    assert memory_bytes(machine.root) == 1_000_000


def test_a_part_below_the_mounted_one_is_found(machine: Machine) -> None:
    """A path is followed from the mounted part on, not from the tree's root."""
    machine.write("proc/self/cgroup", "0::/docker/x/inner\n")
    machine.mount(V2, top="/docker/x", at="/cg\\040roups")
    machine.write("cg roups/inner/cpu.max", "25000 100000\n")
    assert machine.cores() == 0.25


def test_version_1_has_a_tree_for_each_controller(machine: Machine) -> None:
    """Quota ÷ period; -1 and a number near 2**63 are no limits; other trees are left alone."""
    machine.write("proc/self/cgroup", "4:memory:/pod7\n3:cpu,cpuacct:/pod7/x\n0::/\n")
    machine.mount(V1, top="/", at="/sys/fs/cgroup/cpu", controllers="cpu,cpuacct")
    machine.mount(V1, top="/", at="/sys/fs/cgroup/cpuset", controllers="cpuset")
    machine.mount(V1, top="/", at="/sys/fs/cgroup/memory", controllers="memory")
    machine.mount(V2, top="/", at="/sys/fs/cgroup/unified")
    machine.write("sys/fs/cgroup/cpu/pod7/x/cpu.cfs_quota_us", "-1\n")
    machine.write("sys/fs/cgroup/cpu/pod7/x/cpu.cfs_period_us", "100000\n")
    machine.write("sys/fs/cgroup/cpu/pod7/cpu.cfs_quota_us", "120000\n")
    machine.write("sys/fs/cgroup/cpu/pod7/cpu.cfs_period_us", "50000\n")
    machine.write("sys/fs/cgroup/cpuset/pod7/cpu.cfs_quota_us", "1\n")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert machine.cores() == 2.4
    assert memory_bytes(machine.root) is None
    machine.write("sys/fs/cgroup/memory/pod7/memory.limit_in_bytes", "268435456\n")
    assert memory_bytes(machine.root) == 268_435_456


@pytest.mark.parametrize("text", ["", "\n", "no number\n", "0 0\n", "100000 max\n", "\x00\xff"])
def test_a_file_that_makes_no_sense_limits_nothing(machine: Machine, text: str) -> None:
    """What cannot be read is taken for no limit: a worker starts all the same."""
    machine.write("proc/self/cgroup", "0::/\nnonsense\n::\n")
    machine.mount(V2, top="/", at="/sys/fs/cgroup")
    machine.mount("{rest}", rest="31 - cgroup2")
    machine.write("sys/fs/cgroup/cpu.max", text)
    assert machine.cores() == 8


@pytest.mark.parametrize(
    ("has", "shards", "wanted"), [(0.3, 1, 1), (2.0, 1, 2), (2.0, 2, 1), (3.9, 1, 3), (64, 2, 4)]
)
def test_an_inference_uses_what_its_process_has(has: float, shards: int, wanted: int) -> None:
    """Cores ÷ processes, at least one thread and at most four."""
    assert threads(has, shards) == wanted
