"""What is wrong with a camera is seen in real recordings; a rendered day shows nothing wrong."""

from functools import cache

import cv2
import numpy as np
import pytest

from benchmarks import days, health
from benchmarks.days import FAULTS, Grey
from edge.vision.health import ACCEPT_S, LEARN_LOOKS, NO_KEYS_S, Doctor, Limits
from tests.parts.clips import asset

RECORDINGS = ("traffic_camera.mp4", "Retail02_short.mp4", "video02.avi", "house6.mp4")


@cache
def footage(name: str) -> tuple[Grey, ...]:
    """Pictures of a real recording, one a second."""
    return tuple(health.pictures(asset(f"videos/{name}")))


def scene(looks: int) -> list[Grey]:
    """A yard with sharp edges everywhere, and a sensor's noise."""
    rng = np.random.default_rng(5)
    drawn = np.full((180, 320), 120, np.uint8)
    for _ in range(60):
        left, top = int(rng.integers(300)), int(rng.integers(170))
        corner = (left + int(rng.integers(8, 60)), top + int(rng.integers(8, 40)))
        cv2.rectangle(drawn, (left, top), corner, (int(rng.integers(40, 220)),), -1)
    return list(health.looped([drawn], looks))


@pytest.mark.parametrize("name", RECORDINGS)
def test_each_fault_is_found_in_real_footage_within_its_time(name: str) -> None:
    """Five seconds after it began, frozen ten, at one look a second."""
    for fault, what, delay in health.delays(footage(name)):
        limit_s = health.BAR_S.get(fault, 5.0)
        assert (delay or 99.0) <= limit_s, f"{fault}, {what}: {delay}"


@pytest.mark.parametrize("name", health.RECORDINGS)
def test_real_footage_shows_no_fault(name: str) -> None:
    """People, cars, crowds and auto exposure are none."""
    events = health.judged(health.looped(footage(name), 60), every_s=1.0)
    assert events == []


def test_a_rendered_day_raises_no_fault() -> None:
    """Day and night, infrared, headlights, rain, clouds, fog: a picture every few minutes."""
    events = health.judged(days.day(1, crowds=6, every=4), every_s=240.0)
    assert [(event.rule, event.t_ms // 60_000) for event in events] == []


@pytest.mark.parametrize("fault", ["black", "over-exposed"])
def test_what_needs_no_view_is_seen_from_the_start(fault: str) -> None:
    """A camera that has shown nothing since it was first looked at is known to show nothing."""
    rng = np.random.default_rng(3)
    doctor = Doctor()
    for injure in FAULTS[fault].values():
        for number, picture in enumerate(scene(3)):
            assert set(doctor.look(injure(picture, rng), float(number), is_key=True)) >= {fault}
    assert not doctor.knows


def test_a_fault_that_stands_is_not_learned() -> None:
    """After minutes a covered camera is still covered, and its view is known at once again."""
    rng = np.random.default_rng(3)
    looks = scene(230)
    doctor = Doctor()
    for number, picture in enumerate(looks[:30]):
        assert doctor.look(picture, float(number), is_key=True) == {}
    cloth = FAULTS["covered"]["cloth"]
    for number, picture in enumerate(looks[30:200], 30):
        assert set(doctor.look(cloth(picture, rng), float(number), is_key=True)) == {"covered"}
    assert doctor.look(looks[200], 200.0, is_key=True) == {}


def test_a_view_that_nobody_turns_back_is_accepted_after_a_day() -> None:
    """Until then it is moved, however often it is looked at."""
    rng = np.random.default_rng(3)
    turned = FAULTS["moved"]["across 30 %"]
    looks = scene(120)
    doctor = Doctor()
    for number, picture in enumerate(looks[:30]):
        doctor.look(picture, float(number), is_key=True)
    every_s = ACCEPT_S / 60
    signs = [
        set(doctor.look(turned(picture, rng), 30 + number * every_s, is_key=True))
        for number, picture in enumerate(looks[30:])
    ]
    assert signs[1:60] == [{"moved"}] * 59
    assert signs[-20:] == [set()] * 20


def test_an_operator_may_accept_a_view() -> None:
    """What is there after `forget` is right."""
    rng = np.random.default_rng(3)
    turned = FAULTS["moved"]["across 10 %, down 5 %"]
    looks = scene(80)
    doctor = Doctor()
    for number, picture in enumerate(looks[:30]):
        doctor.look(picture, float(number), is_key=True)
    assert set(doctor.look(turned(looks[30], rng), 30.0, is_key=True)) == {"moved"}
    doctor.forget()
    for number, picture in enumerate(looks[31:], 31):
        assert doctor.look(turned(picture, rng), float(number), is_key=True) == {}
    assert doctor.knows


def test_infrared_that_turns_dark_to_bright_is_the_same_view() -> None:
    """Foliage shines in infrared: an edge counts in either direction."""
    doctor = Doctor()
    looks = scene(60)
    for number, picture in enumerate(looks[:30]):
        doctor.look(picture, float(number), is_key=True)
    for number, picture in enumerate(looks[30:], 30):
        assert doctor.look(255 - picture, float(number), is_key=True) == {}


def test_a_picture_is_frozen_once_a_key_frame_repeats_it() -> None:
    """Between key frames an encoder may leave out what does not change; a key frame is new."""
    looks = scene(60)
    doctor = Doctor()
    for number, picture in enumerate(looks[:5]):
        doctor.look(picture, float(number), is_key=False)
    for at_s in (5.0, 6.0, 7.0):
        assert "frozen" not in doctor.look(looks[4], at_s, is_key=False)
    assert doctor.look(looks[4], 8.0, is_key=True)["frozen"] == 4.0
    assert "frozen" not in doctor.look(looks[5], 9.0, is_key=True)


def test_without_key_frames_a_picture_is_frozen_after_a_long_while() -> None:
    """An encoder that never sends any says nothing anew."""
    looks = scene(3)
    doctor = Doctor()
    signs = [doctor.look(looks[0], float(at_s), is_key=False) for at_s in range(80)]
    assert next(at_s for at_s, sign in enumerate(signs) if "frozen" in sign) == NO_KEYS_S


def test_frozen_from_the_start_teaches_nothing_but_the_first_picture() -> None:
    """A still that begins to live is no moved camera."""
    looks = scene(60)
    doctor = Doctor()
    for at_s in range(40):
        doctor.look(looks[0], float(at_s), is_key=True)
    assert not doctor.knows
    for number, picture in enumerate(looks[1:], 40):
        assert doctor.look(picture, float(number), is_key=True) == {}


def test_another_size_of_picture_is_another_view() -> None:
    """A camera that was set otherwise is learned anew."""
    doctor = Doctor()
    looks = scene(60)
    for number, picture in enumerate(looks[: LEARN_LOOKS + 5]):
        doctor.look(picture, float(number), is_key=True)
    small = np.ascontiguousarray(looks[0][:120])
    assert doctor.look(small, 100.0, is_key=True) == {}
    assert not doctor.knows


def test_limits_are_heeded() -> None:
    """What one operator calls dark is another's night."""
    rng = np.random.default_rng(3)
    dim = [np.clip(p * 0.2 + rng.normal(0, 1, p.shape), 0, 255).astype(np.uint8) for p in scene(3)]
    strict, lenient = Doctor(Limits(dark=0.3)), Doctor(Limits(dark=0.02))
    assert set(strict.look(dim[0], 0.0, is_key=True)) == {"black"}
    assert lenient.look(dim[0], 0.0, is_key=True) == {}


@pytest.mark.parametrize("shape", [(2, 2), (48, 64), (7, 400)])
def test_pictures_of_any_shape_are_looked_at(shape: tuple[int, int]) -> None:
    """Small and odd ones too; a plain grey shows nothing wrong that can be known."""
    rng = np.random.default_rng(1)
    doctor = Doctor()
    for number in range(30):
        grey = rng.integers(90, 110, shape).astype(np.uint8)
        assert not set(doctor.look(grey, float(number), is_key=True)) & {"black", "over-exposed"}
