"""Motion: what wakes a stream, and what does not, at any rate of looks."""

from collections.abc import Callable, Iterator

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.vision.detect import Detector
from edge.vision.manifest import bare
from edge.vision.motion import HABIT_S, MAX_HABITUAL, WIDTH, Change, Motion
from tests.parts.clips import asset

Floats = npt.NDArray[np.float32]
HEIGHT = WIDTH * 9 // 16
AWAKE_S, KEY_S, LONG_S = 0.2, 2.0, 10.0
NOTHING = np.empty((0, 4), np.float32)
EVERYTHING = np.array([[0, 0, 1, 1]], np.float32)


def ground() -> Floats:
    """A scene of soft shades and hard edges, 30..200."""
    shades = np.random.default_rng(3).normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32)
    soft = cv2.GaussianBlur(shades, (0, 0), 5)
    scene = 110 + soft / np.abs(soft).max() * 60
    scene[60:100, 150:] += 30
    return np.asarray(scene, np.float32)


class Camera:
    """A scene, seen by a sensor with noise, and the motion that looks at it."""

    def __init__(
        self, motion: Motion | None = None, noise: float = 1.5, start_s: float = 0.0
    ) -> None:
        self.motion = motion or Motion()
        self.now_s = start_s
        self._looks = 0
        random = np.random.default_rng(1)
        self._noises = random.normal(0, noise, (31, HEIGHT, WIDTH)).astype(np.float32)

    def see(self, scene: Floats, step_s: float, boxes: Floats | None = None) -> Change:
        """One look, after `step_s`; `boxes` if the picture is inferred too."""
        self.now_s += step_s
        self._looks += 1
        noisy = scene + self._noises[self._looks % len(self._noises), : len(scene)]
        change = self.motion.look(np.clip(noisy, 0, 255).astype(np.uint8), self.now_s)
        if boxes is not None:
            self.motion.explained(boxes, self.now_s)
        return change

    def moves(
        self,
        scenes: Callable[[float], Floats] | Floats,
        seconds: float,
        step_s: float,
        boxes: Floats | None = None,
    ) -> list[bool]:
        """Whether something moved at each look, for so long."""
        began_s = self.now_s
        moved = []
        while self.now_s < began_s + seconds - step_s / 2:
            scene = scenes(self.now_s - began_s + step_s) if callable(scenes) else scenes
            moved.append(self.see(scene, step_s, boxes).moved)
        return moved

    def accustomed(self, scene: Floats) -> "Camera":
        """It has looked at the scene for a while."""
        self.moves(scene, 20, AWAKE_S, NOTHING)
        return self


def with_object(
    scene: Floats, x: float = 100, y: float = 50, w: float = 14, h: float = 10, by: float = 40
) -> Floats:
    """An object that covers cells in part where its edges lie between them."""
    inside = np.clip(np.minimum(np.arange(WIDTH) + 1 - x, x + w - np.arange(WIDTH)), 0, 1)
    down = np.clip(np.minimum(np.arange(HEIGHT) + 1 - y, y + h - np.arange(HEIGHT)), 0, 1)
    return np.asarray(scene + by * down[:, None] * inside[None, :], np.float32)


def small_person(scene: Floats, x: float = 100, by: float = 25) -> Floats:
    """12 x 30 pixels of 1280 x 720."""
    return with_object(scene, x, 60, 12 * WIDTH / 1280, 30 * WIDTH / 1280, by)


def clock(scene: Floats, now_s: float) -> Floats:
    """With digits that are others each second."""
    digits = np.random.default_rng(int(now_s + 0.01)).integers(0, 2, (3, 8)) * 200.0
    shown = scene.copy()
    shown[4:13, 10:34] = np.kron(digits, np.ones((3, 3)))
    return shown


def rainy(scene: Floats) -> Callable[[float], Floats]:
    """Streaks that are elsewhere at each look."""
    random = np.random.default_rng(5)

    def at(now_s: float) -> Floats:
        seen = scene.copy()
        for _ in range(120):
            x, y, length = random.integers((0, 0, 3), (WIDTH, HEIGHT, 9))
            seen[y : y + length, x] += 14
        return seen

    return at


def test_the_first_picture_counts_as_a_change() -> None:
    """Nothing is known of what is in it."""
    camera = Camera()
    first = camera.see(ground(), AWAKE_S)
    assert first.moved
    assert first.relit
    assert not camera.see(ground(), AWAKE_S).moved


@pytest.mark.parametrize("step_s", [AWAKE_S, KEY_S, LONG_S])
@pytest.mark.parametrize("noise", [1.0, 3.0, 6.0])
def test_noise_does_not_move(step_s: float, noise: float) -> None:
    """A still scene keeps still however strong its noise is, once that is known."""
    camera = Camera(noise=noise)
    camera.moves(ground(), 20 * max(step_s, 1), step_s)
    assert not any(camera.moves(ground(), 100 * step_s, step_s))


@pytest.mark.parametrize("step_s", [AWAKE_S, KEY_S, LONG_S])
def test_a_small_person_is_noticed_at_once(step_s: float) -> None:
    """12 × 30 of 1280 × 720 pixels move, at any rate of looks and wherever they stand."""
    camera = Camera().accustomed(ground())
    camera.moves(ground(), 5 * step_s, step_s)
    for x in (0.3, 57.5, 120.2, 200.8):
        assert camera.see(small_person(ground(), x), step_s).moved
        assert not camera.see(ground(), step_s).moved


def test_what_comes_over_the_edge_is_noticed() -> None:
    """A car that enters is noticed by the time it is inside by 3 cells."""
    camera = Camera().accustomed(ground())
    moved = [camera.see(with_object(ground(), x, 70), AWAKE_S).moved for x in (-14, -12.5, -11)]
    assert moved == [False, moved[1], True]


def test_what_stands_still_becomes_ground_and_counts_again_when_it_leaves() -> None:
    """A car that parks moves for some seconds, then no more; it moves again when it goes."""
    camera = Camera().accustomed(ground())
    parked = with_object(ground())
    moved = camera.moves(parked, 10, AWAKE_S)
    assert all(moved[:10])
    assert not any(moved[35:])
    assert not any(camera.moves(parked, 60, LONG_S))
    assert camera.see(ground(), LONG_S).moved


def test_what_stands_still_while_idle_counts_twice_at_most() -> None:
    """Between looks that are far apart it has stood for long enough."""
    camera = Camera().accustomed(ground())
    moved = camera.moves(with_object(ground()), 40, LONG_S)
    assert moved[0]
    assert not any(moved[2:])


def test_what_fidgets_keeps_counting() -> None:
    """A person who stays but does not keep still does not become ground."""
    camera = Camera().accustomed(ground())

    def fidgeting(now_s: float) -> Floats:
        return with_object(ground(), 100 + 2 * np.sin(2 * now_s), 50, 6, 16)

    assert sum(camera.moves(fidgeting, 20, AWAKE_S)[75:]) > 20


@pytest.mark.parametrize("step_s", [AWAKE_S, KEY_S, LONG_S])
def test_a_creeper_is_noticed(step_s: float) -> None:
    """A car that creeps by a cell in 10 s is noticed again and again, not forgotten bit by bit."""
    parked = with_object(ground(), 100, 50, 30, 20)
    camera = Camera().accustomed(parked)

    def creeping(now_s: float) -> Floats:
        return with_object(ground(), 100 + now_s / 10, 50, 30, 20)

    moved = camera.moves(creeping, 120, step_s)
    assert any(moved[: int(40 / step_s)])
    assert any(moved[int(80 / step_s) :])


@pytest.mark.parametrize("step_s", [AWAKE_S, KEY_S])
def test_light_that_changes_does_not_move(step_s: float) -> None:
    """Clouds and gain control, slow or in a step, are made up for; white and black cells too."""
    scene = ground()
    scene[:30] += 60
    camera = Camera().accustomed(scene)

    def lit(now_s: float) -> Floats:
        return scene * np.float32(1 + 0.25 * np.sin(now_s / 6)) + np.float32(5 * (now_s > 30))

    assert not any(camera.moves(lit, 60, step_s))


def test_an_exposure_step_is_told() -> None:
    """It is `relit`, does not move, and hides nobody who comes with it."""
    camera = Camera().accustomed(ground())
    darker = camera.see(ground() * np.float32(0.8), AWAKE_S)
    assert darker.relit
    assert not darker.moved
    change = camera.see(small_person(ground()), AWAKE_S)
    assert change.relit
    assert change.moved


def test_night_mode_wakes_once() -> None:
    """Another picture altogether moves, is `relit`, and is known from then on."""
    camera = Camera().accustomed(ground())
    lamp = np.linspace(0.1, 1, WIDTH, dtype=np.float32)
    night = (255 - ground()) * lamp
    first = camera.see(night, KEY_S)
    assert first.moved
    assert first.relit
    assert not any(camera.moves(night, 60, KEY_S))
    assert camera.see(with_object(night, 180), KEY_S).moved


def test_a_clock_becomes_a_habit() -> None:
    """Its digits count for less than 20 s awake, and not while idle; beside it all counts."""
    scene = ground()
    camera = Camera().accustomed(scene)
    moved = camera.moves(lambda now_s: clock(scene, now_s), 40, AWAKE_S, NOTHING)
    assert any(moved[:10])
    assert not any(moved[100:])
    assert not any(camera.moves(lambda now_s: clock(scene, now_s + 100), 100, LONG_S))
    assert camera.see(small_person(clock(scene, 300)), LONG_S).moved


def swinging(scene: Floats) -> Callable[[float], Floats]:
    """Something that never rests and is no object: a flag."""
    return lambda now_s: with_object(scene, 60 + 5 * np.sin(3 * now_s), 20, 10, 14, 60)


def test_a_habit_ends_at_once_under_a_box() -> None:
    """What the detector sees there is no habit."""
    camera = Camera().accustomed(ground())
    camera.moves(swinging(ground()), 60, AWAKE_S, NOTHING)
    assert camera.motion.habitual_share > 0
    camera.see(swinging(ground())(1), AWAKE_S, np.array([[0.2, 0.1, 0.4, 0.4]], np.float32))
    assert camera.motion.habitual_share == 0


def test_habits_fade() -> None:
    """What has rested for long counts again: a wrong habit heals."""
    camera = Camera().accustomed(ground())
    camera.moves(swinging(ground()), 60, AWAKE_S, NOTHING)
    assert camera.motion.habitual_share > 0
    camera.moves(ground(), 3 * HABIT_S, LONG_S)
    assert camera.motion.habitual_share == 0
    assert camera.see(swinging(ground())(0), LONG_S).moved


def test_a_stronger_change_counts_within_a_habit() -> None:
    """Leaves that flicker a little do not hide a car."""
    camera = Camera().accustomed(ground())

    def flickering(now_s: float) -> Floats:
        return with_object(ground(), 60, 40, 30, 30, 11 * (int(now_s * 2.5) % 2))

    moved = camera.moves(flickering, 60, AWAKE_S, NOTHING)
    assert not any(moved[-50:])
    assert camera.see(with_object(flickering(0), 68, 50, by=60), LONG_S).moved


def test_what_the_detector_explains_is_no_habit() -> None:
    """An object that moves under boxes counts as long as it does."""
    camera = Camera().accustomed(ground())
    assert all(camera.moves(swinging(ground()), 60, AWAKE_S, EVERYTHING)[-50:])
    assert camera.motion.habitual_share == 0


def test_habits_of_most_of_the_picture_are_not_heeded() -> None:
    """A camera whose picture never rests is busy, not blind, and says so."""
    camera = Camera().accustomed(ground())

    def restless(now_s: float) -> Floats:
        return with_object(ground(), 10, 10, 100, 110, 60 * (int(now_s * 2.5) % 2))

    camera.moves(restless, 40, AWAKE_S, NOTHING)
    assert camera.motion.habitual_share > MAX_HABITUAL
    assert camera.moves(restless, 2, AWAKE_S).count(True) >= 5


def test_a_late_explanation_is_for_its_own_picture() -> None:
    """Inference may lag some looks behind: the clock is learned all the same."""
    scene = ground()
    camera = Camera().accustomed(scene)
    times = []
    for number in range(150):
        camera.see(clock(scene, number / 5), AWAKE_S)
        times.append(camera.now_s)
        camera.motion.explained(NOTHING, times[max(0, number - 3)])
    assert not any(camera.moves(lambda now_s: clock(scene, now_s + 100), 20, KEY_S))


def test_rain_does_not_keep_awake() -> None:
    """Streaks that are elsewhere each time are learned within a minute; a car still counts."""
    camera = Camera()
    falling = rainy(ground())
    camera.moves(falling, 60, AWAKE_S, NOTHING)
    assert sum(camera.moves(falling, 30, AWAKE_S, NOTHING)) < 10
    assert sum(camera.moves(falling, 60, KEY_S)) <= 2
    assert camera.see(with_object(falling(0), 100, 60, by=60), KEY_S).moved


def test_masked_parts_never_count_and_areas_alone_do() -> None:
    """What an operator draws is heeded from the first picture on."""
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    for motion in (Motion(masks=[left]), Motion(areas=[((0.6, 0), (1, 0), (1, 1), (0.6, 1))])):
        camera = Camera(motion).accustomed(ground())
        assert not camera.see(with_object(ground(), 50), KEY_S).moved
        assert camera.see(with_object(ground(), 190), KEY_S).moved


def test_another_size_or_connection_starts_anew() -> None:
    """Nothing is compared that does not compare; a catch-up's earlier pictures do."""
    camera = Camera(start_s=1000).accustomed(ground())
    assert not camera.see(ground(), -9).moved
    assert camera.see(small_person(ground()), 1).moved
    assert camera.see(ground(), -500).relit
    assert not camera.see(ground(), AWAKE_S).moved
    assert camera.see(ground()[:100], AWAKE_S).relit
    camera.motion.forget()
    assert camera.see(ground()[:100], AWAKE_S).relit


def test_any_time_will_do() -> None:
    """Streams whose stamps are the seconds since 1970 are judged like those that start at 0."""
    camera = Camera(start_s=1.7e9).accustomed(ground())
    moved = camera.moves(with_object(ground()), 10, AWAKE_S)
    assert all(moved[:10])
    assert not any(moved[35:])


def test_explanations_before_the_first_picture_are_ignored() -> None:
    """There is nothing to explain."""
    motion = Motion()
    motion.explained(EVERYTHING, 1.0)
    assert motion.habitual_share == 0


def _looks(seconds: float) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """A real recording's pictures, some seconds apart."""
    with av.open(str(asset("videos/person-bicycle-car-detection.mp4"))) as container:
        due_s = 0.0
        for frame in container.decode(video=0):
            assert frame.time is not None
            if frame.time >= due_s - 1e-3:
                due_s = frame.time + seconds
                yield frame.time, np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


@pytest.mark.parametrize("step_s", [1.0, 4.0])
def test_all_that_a_detector_finds_anew_has_moved(step_s: float) -> None:
    """In a real recording each new detection comes with a change at its place."""
    detector = Detector(bare(asset("models/yolox_nano.onnx")))
    motion = Motion()
    before: Floats | None = None
    found = 0
    for pts_s, picture in _looks(step_s):
        height, width = picture.shape[:2]
        luma = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        rows = round(WIDTH * height / width)
        small = cv2.resize(luma, (WIDTH, rows), interpolation=cv2.INTER_AREA)
        change = motion.look(small.astype(np.uint8), pts_s)
        image = np.full((416, 416, 3), 114, np.uint8)
        fitted = cv2.resize(picture, (416, round(416 * height / width)))
        image[: len(fitted)] = fitted
        [seen] = detector.detect([image], [(width, height)])
        motion.explained(seen.boxes, pts_s)
        for box, score in zip(seen.boxes, seen.scores, strict=True):
            if score < 0.35 or before is None or any(_close(box, other) for other in before):
                continue
            found += 1
            x1, y1, x2, y2 = (box * np.array([WIDTH, rows] * 2)).astype(int)
            assert change.cells[max(0, y1 - 1) : y2 + 2, max(0, x1 - 1) : x2 + 2].any()
        before = seen.boxes
    assert found >= 3


def _close(box: Floats, other: Floats) -> bool:
    """Whether two boxes overlap by more than half of both together."""
    left, top = np.maximum(box[:2], other[:2])
    right, bottom = np.minimum(box[2:], other[2:])
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    both = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]) - shared
    return bool(shared > 0.5 * both)
