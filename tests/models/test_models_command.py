"""`clipkit models`: results on stdout, remarks on a terminal's stderr, exit codes as everywhere."""

import json

import pytest
from hub_stand_in import Hub, serve
from typer.testing import CliRunner

from clipkit import settings
from clipkit.cli.app import app
from clipkit.models import download
from clipkit.models.catalog import pretrained
from clipkit.models.loader import forget_models
from clipkit.models.locate import cached_file

NAME = "hf-hub:lab/tiny-clip"


@pytest.fixture
def hub(tiny_resnet, monkeypatch):
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    forget_models()
    with serve(Hub()) as server:
        server.add("lab/tiny-clip", tiny_resnet)
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def run(*args, code=0, **kwargs):
    result = CliRunner().invoke(app, ["models", *args], **kwargs)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_life_of_a_model(hub):
    """Pull, list, show, path, use, verify, export, remove: each says what it did and leaves what it should."""
    run("path", NAME, code=4)
    pulled = run("pull", NAME).stdout.strip()
    assert (
        pulled == str(cached_file("lab/tiny-clip", "open_clip_model.safetensors")) == run("path", NAME).stdout.strip()
    )
    assert NAME in run("list", "--here").stdout
    (row,) = json.loads(run("list", "tiny-clip", "--json").stdout)
    assert (row["name"], row["here"], row["image_size"], row["embed_dim"]) == (NAME, True, 64, 16)
    assert json.loads(run("show", NAME, "--json").stdout)["path"] == pulled
    assert "embed_dim" in run("show", NAME).stdout
    assert run("use", NAME).stdout.strip() == NAME
    assert settings.setting("model") == NAME
    checks = json.loads(run("verify", "--json").stdout)
    assert {check["state"] for check in checks} == {"ok"}
    assert "onnx" in run("export", NAME).stdout
    assert run("use", "builtin").stdout.strip() == "builtin"
    assert "model" not in settings.config()
    run("remove", NAME, code=1, input="n\n")
    assert cached_file("lab/tiny-clip", "open_clip_model.safetensors")
    run("remove", NAME, "--yes")
    assert cached_file("lab/tiny-clip", "open_clip_model.safetensors") is None
    run("path", NAME, code=4)


def test_damage_is_an_error(hub):
    """`verify` of a damaged file names it and leaves with 1."""
    run("pull", NAME)
    blob = cached_file("lab/tiny-clip", "open_clip_model.safetensors").resolve()
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    result = run("verify", NAME, code=1)
    assert "damaged" in result.stdout
    assert "pull it again" in result.stderr


def test_list_is_complete_and_greppable():
    """Every pair is a line of its own with its whole name, also in a pipe."""
    lines = run("list").stdout.splitlines()
    names = {line.split()[0] for line in lines[1:] if not line.startswith("*")}
    assert {ref.id for ref in pretrained()} <= names
    assert run("list", "no-such-name", code=2).stdout == ""
    assert all("siglip2" in line.lower() for line in run("list", "siglip2").stdout.splitlines()[1:])


def test_mistakes_are_helped():
    """A mistyped name exits with 2 and names the nearest; an unreachable hub exits with 4."""
    result = run("pull", "ViT-B-23", code=2)
    assert "did you mean ViT-B-32" in result.stderr
    assert run("use", "vitb32/opnai", code=2).stdout == ""
    assert run("remove", "builtin", "--yes", code=2).stdout == ""


def test_offline(monkeypatch):
    """Offline, pull answers with the one line and 4."""
    monkeypatch.setenv("CLIPKIT_OFFLINE", "1")
    result = run("pull", "ViT-B-32", code=4)
    assert "clipkit models pull ViT-B-32/openai" in result.stderr
    assert "\n" not in result.stderr.strip()


def test_a_broken_setting_does_not_lock_out():
    """With a nonsense model in the config, listing and choosing another one still work."""
    settings.save_setting("model", "nonsense")
    run("list")
    run("use", "builtin")


def test_names_complete():
    """Shell completion knows the names."""
    from clipkit.cli.commands.models import _complete

    assert "ViT-B-32/openai" in _complete("vit-b-32/o")
    assert _complete("built") == ["builtin"]


def test_listing_loads_no_torch(isolated):
    """Looking at models imports neither torch nor open_clip nor the hub's library."""
    code = (
        "import sys\n"
        "from clipkit.cli.app import app\n"
        "for words in (['list'], ['show', 'ViT-B-32/openai'], ['use', 'builtin']):\n"
        "    app(['models', *words], standalone_mode=False)\n"
        "print([m for m in ('torch', 'open_clip', 'huggingface_hub', 'onnxruntime') if m in sys.modules])"
    )
    printed = isolated(code)
    assert "trained with QuickGELU" in printed
    assert printed.splitlines()[-1] == "[]"
