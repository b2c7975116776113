"""Where a setting comes from: flag > `CLIPKIT_*` variable > user config file > default. And where things are kept."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from clipkit.errors import UsageError
from clipkit.files import atomic_write

DEFAULTS: dict[str, str] = {"model": "builtin", "device": "auto", "precision": "auto", "format": "auto"}


def config_path() -> Path:
    """The user config file (TOML); `CLIPKIT_CONFIG` overrides its place."""
    if override := os.environ.get("CLIPKIT_CONFIG"):
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_config_dir("clipkit", appauthor=False)) / "config.toml"


def cache_dir() -> Path:
    """Where computed things are kept (class vectors, exported graphs); `CLIPKIT_CACHE_DIR` overrides it."""
    if override := os.environ.get("CLIPKIT_CACHE_DIR"):
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_cache_dir("clipkit", appauthor=False))


def config() -> dict[str, Any]:
    """The user config file as a dict; empty where there is none.

    Raises:
        UsageError: the file is not valid TOML or names an unknown setting.
    """
    return _read_config(config_path())


def setting(name: str, flag: str | None = None) -> str:
    """The value of a setting by precedence."""
    if flag is not None:
        return flag
    if value := os.environ.get(f"CLIPKIT_{name.upper()}"):
        return value
    return str(config().get(name, DEFAULTS[name]))


def save_setting(name: str, value: str | None) -> Path:
    """Write one setting to the user config file (None removes it) and return the file's path."""
    path = config_path()
    values = {**config()}
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value
    with atomic_write(path, "w", encoding="utf-8") as stream:
        for key, item in values.items():
            stream.write(f"{key} = {_quote(str(item))}\n")
    _read_config.cache_clear()
    return path


@cache
def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the config file {path}: {error}") from error
    if unknown := sorted(set(values) - set(DEFAULTS)):
        raise UsageError(f"{path}: unknown setting {unknown[0]!r}; known: {', '.join(DEFAULTS)}")
    return values


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
