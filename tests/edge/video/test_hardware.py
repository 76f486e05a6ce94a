"""Hardware decoding: what is asked for and not there is replaced by software, with a reason."""

import logging
from pathlib import Path

import pytest
from av.codec.hwaccel import hwdevices_available

from edge.video.hardware import accelerator
from edge.video.source import open_container, packets
from tests.parts import clips
from wire import specs


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Its path is new for each test, so that each is warned anew."""
    return clips.write(tmp_path / "a.mp4", clips.moving_square(5))


def stream(clip: Path, hwaccel: str) -> specs.Stream:
    return specs.Stream(url=f"file://{clip}", pace="fast", hwaccel=hwaccel)


def formats(wanted: specs.Stream) -> set[str]:
    """The pixel formats of a stream's pictures."""
    with open_container(wanted, 5, 5) as container:
        return {frame.format.name for frame in container.decode(video=0)}


def test_software_asks_nothing_and_warns_of_nothing(
    clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The default."""
    assert accelerator(stream(clip, "none")) is None
    assert formats(stream(clip, "none")) == {"yuv420p"}
    assert caplog.records == []


def test_a_device_that_this_build_does_not_know(
    clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning lists those that it knows; the stream is decoded all the same."""
    assert "rkmpp" not in hwdevices_available()
    assert formats(stream(clip, "rkmpp")) == {"yuv420p"}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert f"stream file://{clip} is decoded by software: rkmpp: unknown" in message
    assert all(device in message for device in hwdevices_available())


@pytest.mark.parametrize("device", hwdevices_available())
def test_a_device_that_this_machine_lacks(
    device: str, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that is built in and cannot be used says why; pictures are in system memory."""
    if accelerator(stream(clip, device)) is not None:
        assert formats(stream(clip, device)) <= {"yuv420p", "nv12"}
        return
    assert formats(stream(clip, device)) == {"yuv420p"}
    (record,) = caplog.records
    assert f"{device}: " in record.getMessage()


def test_auto_tries_every_device_that_is_built_in(
    clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without any that works there is one warning, with a reason for each."""
    wanted = stream(clip, "auto")
    if accelerator(wanted) is not None:
        pytest.skip("this machine decodes by hardware")
    assert formats(wanted) == {"yuv420p"}
    (record,) = caplog.records
    assert all(f"{device}: " in record.getMessage() for device in hwdevices_available())


def test_a_stream_is_warned_of_once(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is opened again."""
    for _ in range(3):
        assert sum(1 for packet in packets(stream(clip, "rkmpp")) if packet.data) == 5
    assert len(caplog.records) == 1


def test_the_warning_holds_no_credential(caplog: pytest.LogCaptureFixture) -> None:
    """I11: it names the stream as people may see it."""
    camera = specs.Stream(url="rtsp://admin:hunter2@h/s?password=hunter2", hwaccel="rkmpp")
    assert accelerator(camera) is None
    assert "rtsp://h/s" in caplog.text
    assert "hunter2" not in caplog.text
