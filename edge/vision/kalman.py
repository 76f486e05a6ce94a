"""Where objects are expected: a filter of constant velocity for many boxes at once.

Here: prediction and correction, in seconds, because looks are irregular. Not here: which box is of
which object (track.py).

Centre, height and shape (width ÷ height) are filtered each for itself, as ByteTrack does: R. E.
Kalman, A New Approach to Linear Filtering and Prediction Problems, 1960. Speed and place drift by
chance as time goes by (white noise in continuous time), so that two short steps leave as much doubt
as a long one. Noise is in parts of the object's size: near and far objects move alike. The shape
has no speed and little drift: it is the box of a half hidden object that changes, not the object.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

# In object sizes: how speed and place drift in a second, how a new object may move (1/s), and how
# exact a box is. All but the last as ByteTrack has them at 30 looks a second.
SPEED_DRIFT = 1.03
PLACE_DRIFT = 0.27
FIRST_SPEED = 1.9
BOX_NOISE = 0.05
# Of the shape, in parts of itself.
SHAPE_DRIFT = 0.14
FIRST_SHAPE_NOISE = 0.03
SHAPE_NOISE = 0.25
PICTURE = 16 / 9
"""Width ÷ height of pictures. In one of another form noise is somewhat off, and nothing else."""

_SHAPE = 2


def _empty() -> Floats:
    return np.empty((0, 4))


@dataclass(slots=True)
class Motion:
    """N objects. Inside, places are in heights of the picture."""

    place: Floats = field(default_factory=_empty)
    """N × 4: centre x, centre y, width ÷ height, height."""
    speed: Floats = field(default_factory=_empty)
    place_var: Floats = field(default_factory=_empty)
    cross_var: Floats = field(default_factory=_empty)
    speed_var: Floats = field(default_factory=_empty)

    @property
    def boxes(self) -> Floats:
        """N × 4: x1, y1, x2, y2 as expected now, in parts of the picture."""
        x, y, shape, height = self.place.T
        half = shape * height / 2
        return np.stack(
            ((x - half) / PICTURE, y - height / 2, (x + half) / PICTURE, y + height / 2), axis=1
        )

    @property
    def doubt(self) -> Floats:
        """N: how far off the expected place may be (one sigma), in parts of the object's size."""
        doubt: Floats = np.sqrt(self.place_var[:, 0]) / _sizes(self.place)[:, 0]
        return doubt

    def predict(self, dt_s: float, slowing: Floats) -> None:
        """Move everything on by `dt_s` seconds, each slower by e in 1 / `slowing` seconds (N)."""
        if not len(self.place):
            return
        sizes = _sizes(self.place)
        push = (SPEED_DRIFT * sizes) ** 2 * dt_s
        push[:, _SHAPE] = 0
        drift = (PLACE_DRIFT * sizes) ** 2 * dt_s
        drift[:, _SHAPE] = (SHAPE_DRIFT * self.place[:, _SHAPE]) ** 2 * dt_s
        left = np.exp(-slowing * dt_s)
        way_s = np.where(slowing > 0, (1 - left) / np.maximum(slowing, 1e-9), dt_s)
        self.place = self.place + self.speed * way_s[:, None]
        self.place[:, 3] = self.place[:, 3].clip(1e-3, 1)
        self.speed = self.speed * left[:, None]
        self.place_var = (
            self.place_var
            + 2 * dt_s * self.cross_var
            + dt_s**2 * self.speed_var
            + push * dt_s**2 / 3
            + drift
        )
        self.cross_var = self.cross_var + dt_s * self.speed_var + push * dt_s / 2
        self.speed_var = self.speed_var + push

    def correct(self, objects: Rows, boxes: Floats) -> None:
        """Take in where these objects were seen."""
        if not len(objects):
            return
        noise = _noise(self.place[objects], SHAPE_NOISE)
        total = self.place_var[objects] + noise
        gain, speed_gain = self.place_var[objects] / total, self.cross_var[objects] / total
        off = _places(boxes) - self.place[objects]
        self.place[objects] += gain * off
        self.speed[objects] += speed_gain * off
        self.speed_var[objects] -= speed_gain * self.cross_var[objects]
        self.cross_var[objects] *= 1 - gain
        self.place_var[objects] *= 1 - gain

    def halt(self) -> None:
        """Expect everything to stay where it is."""
        self.speed = np.zeros_like(self.speed)

    def keep(self, objects: Rows) -> None:
        """Forget all others."""
        self.place, self.speed = self.place[objects], self.speed[objects]
        self.place_var, self.cross_var = self.place_var[objects], self.cross_var[objects]
        self.speed_var = self.speed_var[objects]

    def add(self, boxes: Floats) -> None:
        """New objects at these boxes; how they move is not known yet."""
        if not len(boxes):
            return
        places = _places(boxes)
        nothing = np.zeros_like(places)
        speed_var = (FIRST_SPEED * _sizes(places)) ** 2
        speed_var[:, _SHAPE] = 0
        self.place = np.concatenate((self.place, places))
        self.speed = np.concatenate((self.speed, nothing))
        self.place_var = np.concatenate((self.place_var, 4 * _noise(places, FIRST_SHAPE_NOISE / 2)))
        self.cross_var = np.concatenate((self.cross_var, nothing))
        self.speed_var = np.concatenate((self.speed_var, speed_var))


def _places(boxes: Floats) -> Floats:
    """As `Motion.place`, of boxes in parts of the picture."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).clip(1e-4).T
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
    return np.stack((x * PICTURE, y, width * PICTURE / height, height), axis=1)


def _sizes(places: Floats) -> Floats:
    """N × 4: the longer side of each object."""
    sizes = places[:, 3] * np.maximum(places[:, _SHAPE], 1)
    return np.repeat(sizes[:, None], 4, axis=1)


def _noise(places: Floats, shape_noise: float) -> Floats:
    """N × 4: the variance of a box that is seen there."""
    noise = (BOX_NOISE * _sizes(places)) ** 2
    noise[:, _SHAPE] = (shape_noise * places[:, _SHAPE]) ** 2
    return noise
