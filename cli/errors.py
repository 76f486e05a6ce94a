"""Why a command ends early: one sentence for the operator and the exit code.

Belongs here: the one error type that `__main__` turns into text and an exit code. Does not belong
here: what can go wrong with a file (documents) or with the center (api); they raise this.
"""

FAILED = 1
"""The center could not be reached or refused, or a check found something wrong."""
BAD_INPUT = 2
"""Files, options or configuration are wrong; nothing was done."""


class CommandError(Exception):
    """Ends the command: `str(error)` says what was attempted, what went wrong, what to do."""

    def __init__(self, sentence: str, exit_code: int = FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
