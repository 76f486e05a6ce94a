"""The order of brokers: stable for each name, even over many."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from wire.link import Broker, spread

BROKERS = [Broker(host=f"broker-{number}", port=1883) for number in range(4)]
NAMES = [f"s{number:05d}-w1" for number in range(4000)]


def test_names_spread_evenly() -> None:
    """Each broker is the first of a quarter of the workers, and the second of a twelfth of each."""
    orders = [spread(BROKERS, name) for name in NAMES]
    firsts = Counter(order[0] for order in orders)
    pairs = Counter((order[0], order[1]) for order in orders)
    assert all(900 < firsts[broker] < 1100 for broker in BROKERS)
    assert len(pairs) == 12
    assert all(260 < count < 410 for count in pairs.values())


@given(st.permutations(BROKERS), st.text(max_size=63))
def test_the_order_is_the_names_own(brokers: list[Broker], name: str) -> None:
    """It loses none, and does not depend on the order in which they are given, or on secrets."""
    order = spread(brokers, name)
    assert sorted(map(str, order)) == sorted(map(str, BROKERS))
    assert order == spread(BROKERS, name)
    secret = [Broker(host=b.host, port=b.port, username="u", password="p") for b in brokers]
    assert [b.host for b in spread(secret, name)] == [b.host for b in order]


def test_a_broker_more_moves_only_who_goes_to_it() -> None:
    """The others keep their order among each other."""
    for name in NAMES[:200]:
        assert [b for b in spread(BROKERS, name) if b != BROKERS[3]] == spread(BROKERS[:3], name)
