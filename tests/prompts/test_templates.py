import pytest

from clipkit.errors import UsageError
from clipkit.prompts.templates import fill, load_templates


def test_shipped_sets_are_the_published_ones():
    """All 80 and all 7 templates agree with open_clip's, in order."""
    metadata = pytest.importorskip("open_clip.zero_shot_metadata")
    for name, published in (
        ("imagenet", metadata.OPENAI_IMAGENET_TEMPLATES),
        ("simple", metadata.SIMPLE_IMAGENET_TEMPLATES),
    ):
        ours = load_templates(name)
        assert [fill(t, "tabby cat") for t in ours] == [t("tabby cat") for t in published]
    assert len(load_templates("imagenet")) == 80
    assert load_templates() == load_templates("imagenet")


def test_inline_file_and_named(tmp_path):
    """Text with {} is one template; a file gives one a line, byte-order mark and empty lines ignored."""
    assert load_templates("an x-ray of {}") == ("an x-ray of {}",)
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfa {}.\r\n\r\nthe {}!\n")
    assert load_templates(str(path)) == ("a {}.", "the {}!")
    assert load_templates("photo") == ("a photo of a {}.",)
    assert load_templates("none") == ("{}",)


@pytest.mark.parametrize(("content", "word"), [("", "empty"), ("a photo of a cat\n", "no {}")])
def test_useless_files_are_refused(tmp_path, content, word):
    """An empty file or a template without a placeholder says so and names the file."""
    path = tmp_path / "t.txt"
    path.write_text(content)
    with pytest.raises(UsageError, match=word) as error:
        load_templates(str(path))
    assert "t.txt" in str(error.value)


def test_mistyped_set_is_guessed():
    """An unknown name offers the nearest one."""
    with pytest.raises(UsageError, match="did you mean 'imagenet'"):
        load_templates("imagnet")


def test_braces_in_labels_stay():
    """A label may hold braces or format fields."""
    assert fill("a {}.", "{x} {0}") == "a {x} {0}."
