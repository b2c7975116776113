"""The command line as a whole: what it loads, what it says, how it exits."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from clipkit import __version__
from clipkit.cli.app import app
from clipkit.cli.reference import reference, walk

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "numpy",
    "PIL",
    "cv2",
    "pydantic",
    "open_clip",
    "onnxruntime",
    "huggingface_hub",
    "transformers",
    "av",
)
COMMANDS = [(" ".join(path), command) for path, command in walk(get_command(app), ("clipkit",))]
LEAVES = [(name, command) for name, command in COMMANDS if not hasattr(command, "list_commands")]


def loaded_after(*args):
    """Names of the modules in the process after a command line ran."""
    code = (
        "import sys, json, atexit\n"
        f"sys.argv = ['clipkit', *{list(args)!r}]\n"
        "atexit.register(lambda: sys.stderr.write('\\n' + json.dumps(sorted(sys.modules))))\n"
        "from clipkit.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    return done, set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("args", [["--help"], ["classify", "--help"], ["models", "--help"], ["classify", "x.jpg"], []])
def test_help_and_usage_errors_load_nothing_heavy(args):
    """Asking for help, or asking wrongly, loads no array or model library."""
    _, modules = loaded_after(*args)
    assert not modules.intersection(HEAVY)


def test_version_loads_not_even_typer():
    """`--version` answers before anything else is loaded."""
    done, modules = loaded_after("--version")
    assert done.stdout == f"clipkit {__version__}\n"
    assert not modules.intersection((*HEAVY, "typer", "rich"))


def test_help_imports_no_command_module():
    """The overview comes from the table alone."""
    _, modules = loaded_after("--help")
    assert not [name for name in modules if name.startswith("clipkit.cli.commands.")]


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_every_command_has_help_and_runnable_examples(name, command):
    """Each command says what it does and shows examples whose options exist."""
    assert command.help
    assert command.epilog, f"{name} shows no examples"
    known = {opt for param in command.params for opt in [*param.opts, *param.secondary_opts]} | {"--help", "-h"}
    lines = [line for line in re.sub(r"\[/?[a-z ]*\]", "", command.epilog).splitlines() if "clipkit " in line]
    assert lines
    for line in lines:
        assert name in line, f"{line!r} is no example of {name}"
        own = line[line.index(name) + len(name) :].split("|")[0]
        for option in re.findall(r"(?<=\s)--?[a-zA-Z0][a-z-]*", own):
            assert option in known, f"{name} has no option {option}"


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_every_option_says_what_it_does(name, command):
    """No option without help."""
    assert [param.name for param in command.params if not getattr(param, "help", "x")] == []


def test_overview_agrees_with_the_commands():
    """Every row of the table is a command that loads, with a sentence about it."""
    for entry in get_command(app).table:
        assert any(path == f"clipkit {entry.name}" for path, _ in COMMANDS)
        assert entry.help.endswith(".")


def test_reference_is_current():
    """docs/reference.md is what `python -m clipkit.cli.reference` prints."""
    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference()


def test_mistyped_command_is_guessed():
    """A near miss names the command and exits with 2."""
    result = CliRunner().invoke(app, ["clasify"])
    assert result.exit_code == 2
    assert "classify" in result.output


def test_shell_completion_knows_commands_and_options():
    """Bash completion offers commands, and the options of a command whose module is not loaded yet."""
    for words, expected in (("clipkit cl", "classify"), ("clipkit classify --lab", "--labels-file")):
        env = {"_CLIPKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run(
            [sys.executable, "-m", "clipkit"],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert expected in done.stdout
