"""Addresses of brokers as operators write them."""

import pytest

from wire.link import Broker


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://host", Broker("host", 1883)),
        ("mqtts://host/", Broker("host", 8883, tls=True)),
        ("mqtt://u:p%40s@h:1", Broker("h", 1, username="u", password="p@s")),
        ("mqtt://u@[::1]:9", Broker("::1", 9, username="u")),
        ("mqtt://h?version=3.1.1", Broker("h", 1883, version="3.1.1")),
    ],
)
def test_broker_urls(url: str, expected: Broker) -> None:
    """Each form of the URL is read, and its redacted form reads as the same address."""
    assert Broker.parse(url) == expected
    again = Broker.parse(str(expected))
    assert (again.host, again.port, again.tls) == (expected.host, expected.port, expected.tls)
    assert (again.username, again.version) == (expected.username, expected.version)


@pytest.mark.parametrize(
    "url",
    [
        "u:s3cret@host",
        "http://u:s3cret@host",
        "mqtt://u:s3cret@",
        "mqtt://u:s3cret@host:99999",
        "mqtt://u:s3cret@host:0",
        "mqtt://u:/s3cret@host",
        "mqtt://u:#s3cret@host",
        "mqtt://u:?s3cret@host",
        "mqtt://u:[s3cret@host",
        "mqtt://:s3cret@host",
        "mqtt://u:s3cret@host?version=4",
        "mqtt://u:s3cret@host?other=1",
    ],
)
def test_a_bad_broker_url_says_what_is_expected_and_no_secret(url: str) -> None:
    """The error names the expected form, and neither it nor its cause shows the password."""
    with pytest.raises(ValueError, match="expected mqtt://") as raised:
        Broker.parse(url)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
