"""How long to wait before trying again: one formula for everybody who retries. Pure."""

import random

_MOST_DOUBLINGS = 32


def full_jitter(attempt: int, base_s: float, cap_s: float, rng: random.Random) -> float:
    """Seconds to wait after failure number `attempt` (0, 1, ...): anything up to the doubled base.

    Full jitter, so that those who lost something together do not return together (M. Brooker,
    "Exponential Backoff and Jitter", 2015).
    """
    return rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, _MOST_DOUBLINGS)))
