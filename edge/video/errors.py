"""What goes wrong with a source, in words for the people who must mend it.

Here: the error and FFmpeg's codes in plain words. Not here: when something counts as wrong
(source.py, arrivals.py).
"""

import errno

import av.error

from wire import specs
from wire.specs import shown_url


class SourceError(Exception):
    """What was attempted on which stream, what happened, and what to do. Never a credential."""


def silent(doing: str, stream: specs.Stream, timeout_s: float) -> SourceError:
    """Nothing came in time."""
    return SourceError(
        f"{doing} {shown_url(stream.url)}: nothing came for {timeout_s:g} s; look whether the "
        "camera is on and reachable"
    )


# What FFmpeg's errors mean to an operator: (what happened, what to do).
_MEANINGS: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        av.error.HTTPUnauthorizedError,
        "it refuses the user name or password",
        "correct them in the camera's stream",
    ),
    (av.error.HTTPForbiddenError, "access is forbidden", "look at the account's rights"),
    (av.error.HTTPNotFoundError, "there is no such path", "correct the stream's url"),
    (av.error.FileNotFoundError, "there is no such file", "correct the path"),
    (av.error.PermissionError, "it may not be read", "look at the file's permissions"),
    (av.error.IsADirectoryError, "it is a directory", "name a file"),
    (
        av.error.ConnectionRefusedError,
        "the connection is refused",
        "look whether the camera is on and the port right",
    ),
    (
        av.error.InvalidDataError,
        "what comes is no video that can be read",
        "look whether the url leads to a video and the file is whole",
    ),
    (
        av.error.ArgumentError,
        "the address, or where it leads, is not one that may be used",
        "correct the stream's url",
    ),
    (av.error.EOFError, "it ends at once", "look whether the file is whole"),
)


def failed(doing: str, stream: specs.Stream, error: BaseException, timeout_s: float) -> SourceError:
    """A SourceError from FFmpeg's error. Its own text is not used: it holds the whole URL."""
    at = f"{doing} {shown_url(stream.url)}"
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return silent(doing, stream, timeout_s)
    for kind, what, remedy in _MEANINGS:
        if isinstance(error, kind):
            return SourceError(f"{at}: {what}; {remedy}")
    if getattr(error, "errno", None) == errno.EIO:
        broke = "the other side broke the connection off, or the network did"
        return SourceError(f"{at}: {broke}; look whether the camera restarted")
    said = getattr(error, "strerror", None) or type(error).__name__
    return SourceError(f"{at}: {said}; look at the camera, its address and the network")
