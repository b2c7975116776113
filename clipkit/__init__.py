"""clipkit: answers about pictures, video and sound with CLIP, without training anything.

The names below are loaded when first used, so that `import clipkit` costs nothing.
"""

TYPE_CHECKING = False  # as typing's constant, without the 4 ms of importing typing
if TYPE_CHECKING:
    from typing import Any

    from clipkit.api import classify
    from clipkit.errors import ClipkitError, InputError, ModelError, ModelUnavailableError, OutputError, UsageError
    from clipkit.models.loader import load_clip
    from clipkit.results import Classification, Failure, Prediction

__version__ = "0.1.0"

_HOMES = {
    "classify": "clipkit.api",
    "load_clip": "clipkit.models.loader",
    **dict.fromkeys(
        ("ClipkitError", "InputError", "ModelError", "ModelUnavailableError", "OutputError", "UsageError"),
        "clipkit.errors",
    ),
    **dict.fromkeys(("Classification", "Failure", "Prediction"), "clipkit.results"),
}

__all__ = [  # noqa: RUF022 (by meaning)
    "classify",
    "load_clip",
    "Classification",
    "Failure",
    "Prediction",
    "ClipkitError",
    "InputError",
    "ModelError",
    "ModelUnavailableError",
    "OutputError",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> "Any":
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'clipkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *globals()])
