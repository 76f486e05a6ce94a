"""What the demo wants: its station, worker, camera and task, as an operator would write them.

Belongs here: names, rules. Does not belong here: pictures (scene), networks (network), HTTP.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from cli.demo.network import Network
from cli.demo.scene import Scene
from cli.documents import Document
from wire import specs

STATION = "demo"
WORKER = "demo-1"
CAMERA = "forecourt"
TASK = "forecourt"
VEHICLES = ("car", "truck", "bus", "motorcycle", "bicycle")
_MAX_CLASSES = 100


def documents(scene: Scene, network: Network) -> list[Document]:
    """All resources in the order in which they can be applied. Raises wire.specs.SpecError."""
    inside = {"station": STATION}
    written: list[dict[str, Any]] = [
        {"kind": "Station", "metadata": {"name": STATION}, "spec": {"title": "Demo forecourt"}},
        {"kind": "Worker", "metadata": {"name": WORKER, **inside}},
        {
            "kind": "Camera",
            "metadata": {"name": CAMERA, **inside},
            "spec": {"title": "Forecourt", "streams": {"main": dict(scene.stream)}},
        },
        {"kind": "Task", "metadata": {"name": TASK, **inside}, "spec": _task(scene, network)},
    ]
    return [Document("demo", specs.parse(each)) for each in written]


def _task(scene: Scene, network: Network) -> dict[str, Any]:
    zones, lines = scene.zones, scene.lines
    if scene.rendered:
        rules = list(_forecourt_rules(zones, lines, network.labels))
    else:
        lines = {"middle-x": [[0.5, 0.0], [0.5, 1.0]], "middle-y": [[0.0, 0.5], [1.0, 0.5]]}
        rules = list(_general_rules(network.labels))
    if not rules:  # a network that knows neither people nor vehicles
        seen = list(network.labels[:_MAX_CLASSES])
        rules = [{"name": "something", "when": {"class": seen}, "for": 1, "severity": "info"}]
    return {
        "camera": CAMERA,
        "fps": 5,
        "model": {"name": network.name},
        "zones": dict(zones),
        "lines": dict(lines),
        "rules": rules,
    }


def _forecourt_rules(
    zones: Mapping[str, Any], lines: Mapping[str, Any], labels: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Rules for the rendered forecourt, as far as its places and the network's labels go."""
    cars = [label for label in ("car", "truck") if label in labels]
    if "person" in labels and "unload" in zones:
        yield {
            "name": "person-at-unloading",
            "when": {"class": "person", "in": "unload"},
            "for": 3,
            "severity": "critical",
        }
    if "car" in labels and "exit" in lines:
        yield {
            "name": "drive-out",
            "when": {"class": "car", "crosses": "exit"},
            "severity": "info",
        }
    for zone in zones:
        if cars and zone.startswith("pump"):
            yield {
                "name": f"overstay-{zone}",
                "when": {"class": cars, "in": zone},
                "for": 10,
                "severity": "warning",
            }
    if "car" in labels:
        yield {
            "name": "two-cars",
            "when": {"count": {"class": "car"}, "at_least": 2},
            "for": 2,
            "severity": "info",
        }


def _general_rules(labels: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Rules for a video of which nothing is known."""
    vehicles = [label for label in VEHICLES if label in labels]
    if "person" in labels:
        yield {
            "name": "person",
            "when": {"class": "person"},
            "for": 1,
            "severity": "warning",
        }
    if vehicles:
        yield {"name": "vehicle", "when": {"class": vehicles}, "for": 1, "severity": "info"}
        for line in ("middle-x", "middle-y"):
            yield {
                "name": f"cross-{line}",
                "when": {"class": vehicles, "crosses": line},
                "severity": "info",
            }
