"""Prompt templates: named sets, user files, and inline strings; `{}` is where the label goes.

The `imagenet` (80) and `simple` (7) sets are those OpenAI published with CLIP (Radford et al. 2021,
section 3.1.4 and the Prompt Engineering for ImageNet notebook).
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from pathlib import Path

from clipkit.errors import UsageError

PLACEHOLDER = "{}"
SETS = ("imagenet", "simple", "photo", "none")


def load_templates(spec: str = "imagenet") -> tuple[str, ...]:
    """The templates of a set's name, a text file (one a line), or one inline template.

    Args:
        spec: `imagenet` (80), `simple` (7), `photo` (`a photo of a {}.`), `none` (the bare label), a path, or
            a string that contains `{}`.

    Raises:
        UsageError: no such set or file, or a template without `{}`.
    """
    if spec == "photo":
        return ("a photo of a {}.",)
    if spec == "none":
        return (PLACEHOLDER,)
    if spec in SETS:
        return _shipped(spec)
    if PLACEHOLDER in spec:
        return (spec,)
    path = Path(spec)
    if not path.is_file():
        hint = difflib.get_close_matches(spec, SETS, n=1)
        also = f"; did you mean {hint[0]!r}?" if hint else ""
        raise UsageError(
            f"no template set or file {spec!r}{also} Known sets: {', '.join(SETS)}; or give a file, or text with {{}}"
        )
    return _from_lines(path)


def fill(template: str, label: str) -> str:
    """The prompt of one label; braces inside the label are left alone."""
    return template.replace(PLACEHOLDER, label)


def _from_lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the template file {path}: {error}") from error
    templates = tuple(line.strip() for line in lines if line.strip())
    if not templates:
        raise UsageError(
            f"the template file {path} is empty; write one template a line, for instance: a photo of a {{}}."
        )
    for template in templates:
        if PLACEHOLDER not in template:
            raise UsageError(f"{path}: the template {template!r} has no {{}} for the label")
    return templates


@cache
def _shipped(name: str) -> tuple[str, ...]:
    text = (resources.files("clipkit.prompts") / "data" / f"templates-{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
