"""Every error clipkit raises on purpose; the message says what to do next.

```
ClipkitError                 exit 1
├── UsageError               exit 2   the command line or the arguments make no sense
├── InputError               exit 1   one input cannot be used; tasks turn it into a `Failure` and go on
├── ModelUnavailableError    exit 4   weights not here, offline, or an extra is not installed
├── ModelError               exit 1   weights are here but wrong (corrupt, mismatched, not supported by this task)
└── OutputError              exit 1   the result cannot be written
```
"""


class ClipkitError(Exception):
    """Base of all errors with a message meant for a person. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(ClipkitError):
    """The request itself is wrong (unknown option value, no labels, empty label set)."""

    exit_code = 2


class InputError(ClipkitError):
    """One input cannot be used. `kind` is a short stable word for scripts, for instance `truncated`."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep `kind` beside the message."""
        super().__init__(message)
        self.kind = kind


class ModelUnavailableError(ClipkitError):
    """The model cannot be had right now: not pulled, offline, or an optional package is missing."""

    exit_code = 4


class ModelError(ClipkitError):
    """The model is here but cannot be used: corrupt file, mismatched weights, or a tower without what the task needs."""


class OutputError(ClipkitError):
    """A result cannot be written (no space, no permission, the name is taken)."""
