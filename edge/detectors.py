"""The networks of a decode process: loaded once for all tasks, exchanged while they look, freed.

Here: which file a name stands for, loading, what is loaded just now. Not here: fetching and trying
(models), who looks with them (shard), the network itself (vision.detect).

The center's model of a name goes before one in this worker's own folders. Another version is loaded
on a thread of its own, and takes the old one's place only when it works; so looks go on meanwhile.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edge.clock import Clock
from edge.pipe import Given, Settings, Supply, Withheld
from edge.vision.detect import Detector
from edge.vision.manifest import Manifest, MissingModelError, ModelError, find
from edge.vision.trial import try_out
from wire.manifest import MANIFEST, Network
from wire.models import parse
from wire.specs import SpecError

log = logging.getLogger("forecourt.detectors")

Stamp = tuple[tuple[int, int, int], ...]
"""Time of change, size and number of each file that a network was read from."""


class AwaitedModelError(ModelError):
    """The model will come; the text says how far it is."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A network at work, and what it was loaded from: the center's, or files of a folder."""

    detector: Detector
    given: Given | None
    stamp: Stamp = ()


@dataclass
class Detectors:
    """The networks by name. `get`, `supplied`, `keep` are one thread's, the rest any thread's."""

    settings: Settings
    clock: Clock
    renewed: Callable[[str], None]
    """Called on a loading thread: another network of that name is loaded."""
    objection: Callable[[str, Detector], str] = lambda _name, _detector: ""
    """Why tasks could not go on with a network of that name; empty: they can."""
    _given: dict[str, Given] = field(default_factory=dict)
    _withheld: dict[str, Withheld] = field(default_factory=dict)
    _loaded: dict[str, _Loaded] = field(default_factory=dict)
    _refused: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    _seen: dict[str, Stamp] = field(default_factory=dict)
    """Of files that have changed: their stamps at the look before."""
    _notes: dict[str, str] = field(default_factory=dict)
    _loading: threading.Lock = field(default_factory=threading.Lock)

    def get(self, name: str) -> Detector:
        """The network of a name, loaded now if it is not yet. Raises ModelError."""
        loaded = self._loaded.get(name)
        if loaded is None:
            loaded = self._loaded[name] = self._load(name, self._given.get(name))
        return loaded.detector

    def current(self, name: str) -> Detector | None:
        """The network of a name, if one is loaded."""
        loaded = self._loaded.get(name)
        return None if loaded is None else loaded.detector

    def note(self, name: str) -> str:
        """Why another file in the worker's own folder was not taken, if one was not."""
        return self._notes.get(name, "")

    def refused(self) -> tuple[tuple[str, bytes, str], ...]:
        """Models of the center that cannot be loaded here: name, document, why."""
        return tuple((name, document, why) for name, (document, why) in self._refused.items())

    def supplied(self, supply: Supply) -> set[str]:
        """What the center's models are from now on; the names that mean something else now."""
        given = {one.name: one for one in supply.given}
        withheld = {one.name: one for one in supply.withheld}
        names = {*given, *withheld, *self._given, *self._withheld}
        changed = {
            name
            for name in names
            if (given.get(name), withheld.get(name))
            != (self._given.get(name), self._withheld.get(name))
        }
        self._given, self._withheld = given, withheld
        for name in changed:
            refused = self._refused.get(name)
            if refused is not None and (name not in given or given[name].document != refused[0]):
                del self._refused[name]
            loaded = self._loaded.get(name)
            if loaded is not None and loaded.given != given.get(name) and name not in withheld:
                self._renew(name)
        return changed

    def keep(self, names: Iterable[str]) -> None:
        """Free the networks of other names."""
        kept = set(names)
        for name in [name for name in self._loaded if name not in kept]:
            del self._loaded[name]
            self._notes.pop(name, None)

    def look_at_folders(self) -> None:
        """Find out whether files of this worker's own folders are others than were loaded.

        To be called now and then: files that still change between two calls are being written.
        """
        for name, loaded in list(self._loaded.items()):
            if loaded.given is not None:
                continue
            now = _stamp(loaded.detector.manifest.path)
            if now != loaded.stamp and now and self._seen.get(name) == now:
                self._seen.pop(name)
                self._renew(name)
            elif now != loaded.stamp:
                self._seen[name] = now

    # --- loading ---

    def _load(self, name: str, given: Given | None) -> _Loaded:
        """Raises ModelError."""
        if given is not None:
            try:
                return _Loaded(self._detector(_manifest(given)), given)
            except ModelError as error:
                self._refused[name] = (given.document, str(error))
                raise
        try:
            manifest = find([Path(folder) for folder in self.settings.models], name)
        except MissingModelError:
            withheld = self._withheld.get(name)
            if withheld is None:
                raise
            if withheld.hopeless:
                raise ModelError(f"the center's model {name}: {withheld.reason}") from None
            raise AwaitedModelError(f"the center's model {name}: {withheld.reason}") from None
        stamp = _stamp(manifest.path)  # before it is read: what changes meanwhile is seen later
        detector = self._detector(manifest)
        outcome = try_out(detector, self.clock)  # the center's was tried before it came here
        if not outcome.ok:
            raise ModelError(f"model {name}: {outcome.reason}")
        return _Loaded(detector, None, stamp)

    def _detector(self, manifest: Manifest) -> Detector:
        settings = self.settings
        return Detector(manifest, threads=settings.threads, inference=settings.inference)

    def _renew(self, name: str) -> None:
        threading.Thread(
            target=self._exchange, args=(name,), name=f"load-{name}", daemon=True
        ).start()

    def _exchange(self, name: str) -> None:
        """On a thread of its own: load what the name means now, and let it take the place."""
        with self._loading:  # two at once would need twice the memory
            given, before = self._given.get(name), self._loaded.get(name)
            if before is None or (given is not None and before.given == given):
                return
            try:
                fresh = self._load(name, given)
                problem = self.objection(name, fresh.detector)
                if problem:
                    raise ModelError(f"model {name}: {problem}")
            except Exception as error:  # whatever it is, the old one goes on
                self._keep_the_old(name, before, given, error)
                return
            if self._given.get(name) != given or name not in self._loaded:
                return  # it means something else again, or nobody wants it any more
            self._loaded[name] = fresh
            self._notes.pop(name, None)
        log.info("model %s: another version is loaded", name)
        self.renewed(name)

    def _keep_the_old(
        self, name: str, before: _Loaded, given: Given | None, error: Exception
    ) -> None:
        reason = str(error) or type(error).__name__
        log.error("model %s: the one before goes on: %s", name, reason)
        if given is not None:
            self._refused[name] = (given.document, reason)
            return
        self._notes[name] = f"its file was replaced and the one before goes on: {reason}"
        if before.given is None:  # not again before it changes once more
            stamp = _stamp(before.detector.manifest.path)
            self._loaded[name] = _Loaded(before.detector, None, stamp)
        self.renewed(name)


def _manifest(given: Given) -> Manifest:
    try:
        model = parse(given.document)
    except SpecError as error:
        raise ModelError(f"model {given.name}: {error}") from None
    known = {field: getattr(model, field) for field in Network.model_fields}
    return Manifest(**known, path=Path(given.path))


def _stamp(path: Path) -> Stamp:
    """Of a network's file and the manifest beside it; empty while the file is not there."""
    found = []
    for each in (path, path.parent / MANIFEST):
        try:
            about = each.stat()
        except OSError:
            if each == path:
                return ()
            continue
        found.append((about.st_mtime_ns, about.st_size, about.st_ino))
    return tuple(found)
