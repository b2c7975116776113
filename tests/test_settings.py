"""Settings by precedence, and files written whole or not at all."""

import os

import pytest

from clipkit import settings
from clipkit.errors import OutputError, UsageError
from clipkit.files import atomic_write


def test_precedence(monkeypatch):
    """Flag over variable over config file over default."""
    assert settings.setting("model") == "builtin"
    settings.save_setting("model", 'ViT "B" \\ 32')
    assert settings.setting("model") == 'ViT "B" \\ 32'
    monkeypatch.setenv("CLIPKIT_MODEL", "from-env")
    assert settings.setting("model") == "from-env"
    assert settings.setting("model", "flag") == "flag"
    monkeypatch.delenv("CLIPKIT_MODEL")
    settings.save_setting("device", "cpu")
    settings.save_setting("model", None)
    assert settings.setting("model") == "builtin"
    assert settings.setting("device") == "cpu"


@pytest.mark.parametrize("text", ["model = ", "modle = 'x'"])
def test_a_bad_config_file_is_named(text):
    """A typing error or an unknown setting names the file."""
    path = settings.config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    settings._read_config.cache_clear()
    with pytest.raises(UsageError, match="config"):
        settings.setting("model")


def test_atomic_write_replaces_whole(tmp_path):
    """The new content appears at once; parents are made; the mode follows the umask."""
    path = tmp_path / "a" / "b.txt"
    with atomic_write(path, "w", encoding="utf-8") as stream:
        stream.write("new")
        assert not path.exists()
    assert path.read_text() == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_write_leaves_nothing_behind(tmp_path, error):
    """On any error the old file stays and the temporary one is gone."""
    path = tmp_path / "f"
    path.write_text("old")

    def half_a_file():
        with atomic_write(path, "w") as stream:
            stream.write("half")
            raise error

    with pytest.raises(error):
        half_a_file()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_atomic_write_names_what_it_cannot_write(tmp_path):
    """A file where a folder should be."""
    (tmp_path / "f").write_text("")
    with pytest.raises(OutputError, match="cannot write"), atomic_write(tmp_path / "f" / "g"):
        pass
