"""Kill -9 in rounds: a worker, the center or the broker (with all that it held), by chance.

Each round has at least a hundred confirmed events. Afterwards the worker's independent ledger is
compared with the center's database. Bar: nothing lost, nothing doubled, no undeclared gap.

    python -m benchmarks.faults --rounds 20 --json
"""

import random
import time
from collections import Counter

from benchmarks import stage
from tests.faults import rig
from tests.faults.loops import VICTIMS, kill_loop

ROUNDS = 20
DRAIN_S = 120.0


def main() -> int:
    """1 if anything was lost, doubled, or skipped without a word."""
    parser = stage.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    stage.require_mosquitto()
    rng = random.Random(given.seed)
    victims = [rng.choice(VICTIMS) for _ in range(given.rounds)]
    began_s = time.monotonic()
    with stage.folder(given) as folder, rig.house(folder) as house:
        with house.station("kill-loop", burst=5) as station:
            kill_loop(
                house,
                station,
                rng,
                victims,
                lambda number, victim: stage.say(f"round {number}/{given.rounds}: {victim}"),
            )
            stage.say("draining")
            station.drained(DRAIN_S)
            verdict = house.verdict(station)
            station.stop()
            station.check()
        house.center.process.stop()
        house.check()
    result = {
        "benchmark": "faults",
        "rounds": given.rounds,
        "seed": given.seed,
        "killed": dict(Counter(victims)),
        "events": verdict.confirmed,
        "stored": verdict.stored,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "altered": verdict.altered,
        "undeclared_gaps": verdict.undeclared_gaps,
        "lost_with_disk": verdict.given_up.get("lost_with_disk", 0),
        "given_up": verdict.given_up,
        "examples": verdict.examples,
        "seconds": round(time.monotonic() - began_s, 1),
    }
    stage.finish(result, given)
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
