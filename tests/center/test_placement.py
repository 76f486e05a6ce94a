"""Placement: pure, stable, and cameras kept together."""

from hypothesis import given
from hypothesis import strategies as st

from center.placement import place, worker_of

names = st.lists(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), unique=True, max_size=12)
tasks = st.lists(
    st.tuples(st.from_regex(r"t[0-9]{1,3}", fullmatch=True), st.sampled_from("abcdef")),
    unique_by=lambda pair: pair[0],
    max_size=30,
)


@given(tasks, names)
def test_the_tasks_of_a_camera_are_together(
    wanted: list[tuple[str, str]], workers: list[str]
) -> None:
    """Every task is placed, and all tasks of one camera are at the same worker."""
    placed = place(wanted, workers)
    assert set(placed) == {task for task, _ in wanted}
    by_camera: dict[str, set[str | None]] = {}
    for task, camera in wanted:
        by_camera.setdefault(camera, set()).add(placed[task])
    assert all(len(chosen) == 1 for chosen in by_camera.values())


@given(tasks, names)
def test_without_workers_nothing_is_placed(
    wanted: list[tuple[str, str]], workers: list[str]
) -> None:
    """A task has a worker exactly when there is one."""
    assert all((worker is None) == (not workers) for worker in place(wanted, workers).values())


@given(st.sampled_from("abcdef"), names.filter(lambda some: len(some) > 1))
def test_a_leaving_worker_moves_only_its_own(camera: str, workers: list[str]) -> None:
    """A camera moves only if its own worker left, and comes back with it; order does not matter."""
    chosen = worker_of(camera, workers)
    for left in workers:
        rest = [name for name in reversed(workers) if name != left]
        assert (worker_of(camera, rest) == chosen) == (left != chosen)


def test_cameras_are_spread() -> None:
    """Of 400 cameras, four workers have each between a sixth and a third."""
    workers = ["w1", "w2", "w3", "w4"]
    chosen = [worker_of(f"camera-{number}", workers) for number in range(400)]
    assert all(66 <= chosen.count(worker) <= 134 for worker in workers)
