"""The agent's latest log lines, kept in memory for those who ask from afar.

Here: a bounded ring, and taking credentials out of text. Not here: where lines are written to
(__main__), who may ask (calls). Shards write to stderr themselves; their lines are not in the ring.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable
from urllib.parse import quote

RING_LINES = 1000
MAX_LINE = 2000
"""Characters of a kept line."""
MIN_SECRET = 4
"""Shorter passwords are words of any text; they are hidden in URLs only."""

_USERINFO = re.compile(r"://([^\s/:@]*):\S*@")
_SETTING = re.compile(r"(?i)\b(pass(?:word|wd)?|pwd|secret|token)(=|%3d)[^\s&;,]+")


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """Text without the passwords of URLs, without settings that look like one, and without any of
    `secrets`, plain or percent-encoded.
    """
    text = _USERINFO.sub(r"://\1:***@", text)
    text = _SETTING.sub(r"\1\2***", text)
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return text


class Ring(logging.Handler):
    """Keeps the latest `RING_LINES` lines of this process, scrubbed. Threads may log at once."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._lines: deque[str] = deque(maxlen=RING_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's lines; what cannot be written is told as logging does."""
        try:
            # First scrubbed, then cut: half a URL shows a password that no pattern finds.
            self._lines.extend(
                line[:MAX_LINE] for line in scrubbed(self.format(record)).split("\n")
            )
        except Exception:
            self.handleError(record)

    def last(self, lines: int) -> list[str]:
        """The latest lines, oldest first."""
        self.acquire()
        try:
            return list(self._lines)[-lines:]
        finally:
            self.release()
