"""Names: the shipped table is open_clip's registry, every spelling finds its model, mistakes are helped."""

import json
import os

import pytest

from clipkit.errors import UsageError
from clipkit.models import catalog
from clipkit.models.catalog import BUILTIN_DIR, ModelRef, default_tag, pretrained, resolve, suggestions
from clipkit.models.registry import TABLE, build_table


def test_table_is_open_clips_registry():
    """The shipped table is what the installed open_clip would generate, and covers every pretrained pair."""
    import open_clip

    assert json.loads(TABLE.read_text()) == build_table(), "run: python -m clipkit.models.registry"
    assert {ref.id for ref in pretrained()} == {
        f"{a}/{t}" for a, t in open_clip.list_pretrained() if not a.endswith("-quickgelu")
    }


def test_every_pair_resolves():
    """Each of open_clip's pairs, the -quickgelu doubles included, resolves in all of its spellings to one reference."""
    import open_clip

    for arch, tag in open_clip.list_pretrained():
        plain = arch.removesuffix("-quickgelu")
        for spelling in (f"{arch}/{tag}", f"{arch}:{tag}", f"{arch}/{tag}".lower(), f"{arch}/{tag.replace('_', '-')}"):
            assert resolve(spelling).id == f"{plain}/{tag}", spelling


def test_spellings_never_collide():
    """Blindness to case and separators joins no two models."""
    keys = [catalog._key(ref.id) for ref in pretrained()]
    assert len(set(keys)) == len(keys)
    ids = set(keys)
    assert not [ref.arch for ref in pretrained() if catalog._key(ref.arch) in ids]


def test_quickgelu_is_known_for_every_pair():
    """The activation that a pair computes with is the one it was trained with: the tag's, or the architecture's own."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    for ref in pretrained():
        trained = get_pretrained_cfg(ref.arch, ref.tag).get("quick_gelu", False)
        own = open_clip.get_model_config(ref.arch).get("quick_gelu", False)
        assert ref.quick_gelu == bool(trained or own), ref.id
        if ref.tag in {"openai", "metaclip_400m", "metaclip_fullcc", "dfn2b", "dfn5b"}:
            assert ref.quick_gelu, ref.id


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32", "ViT-B-32/openai"),
        ("vit-b/32", "ViT-B-32/openai"),
        ("ViT-B-32-quickgelu", "ViT-B-32/openai"),
        ("ViT-L/14@336px", "ViT-L-14-336/openai"),
        ("openai/clip-vit-base-patch32", "ViT-B-32/openai"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32/laion2b_s34b_b79k"),
        ("timm/ViT-B-16-SigLIP2", "ViT-B-16-SigLIP2/webli"),
        ("google/siglip2-base-patch16-224", "ViT-B-16-SigLIP2/webli"),
        ("ViT-H-14", "ViT-H-14/dfn5b"),
        ("coca_ViT-L-14", "coca_ViT-L-14/laion2b_s13b_b90k"),
        (" MobileCLIP2-S0 ", "MobileCLIP2-S0/dfndr2b"),
        ("builtin", "builtin"),
        ("hf-hub:some/repo", "hf-hub:some/repo"),
    ],
)
def test_spellings(name, expected):
    """The names people know lead to one canonical name."""
    assert resolve(name).id == expected


def test_every_architecture_has_a_default():
    """An architecture alone is enough, and its default tag is one of its tags."""
    for arch in {ref.arch for ref in pretrained()}:
        assert resolve(arch).id == f"{arch}/{default_tag(arch)}"


def test_recommended_exists():
    """The model that hints name is in the catalog."""
    assert resolve(catalog.RECOMMENDED).id == catalog.RECOMMENDED


def test_plain_architecture_of_quickgelu_weights_is_noted():
    """A request for openai weights on the plain architecture is corrected with a note; the note is no part of identity."""
    noted, right = resolve("ViT-B-32/openai"), resolve("ViT-B-32-quickgelu/openai")
    assert "QuickGELU" in noted.note
    assert right.note is None
    assert noted == right


@pytest.mark.parametrize(
    ("name", "near"),
    [("ViT-B-23", "ViT-B-32"), ("vitb32/opnai", "ViT-B-32/openai"), ("bultin", "builtin"), ("RN50x", "RN50")],
)
def test_did_you_mean(name, near):
    """A mistyped name is answered with the nearest ones."""
    assert near in suggestions(name, 5)
    with pytest.raises(UsageError, match="did you mean") as caught:
        resolve(name)
    assert "clipkit models list" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["", "zzzzzz", "./missing", "~/missing-models", "local-dir:", "local-dir:/missing", "hf-hub:", "hf-hub:../x"],
)
def test_nonsense_is_refused(name):
    """What names nothing is a usage error in one line."""
    with pytest.raises(UsageError) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_hub_repositories_are_suggested():
    """ORG/REPO that is not in the catalog is told how to be written."""
    with pytest.raises(UsageError, match="hf-hub:someone/clip-finetune"):
        resolve("someone/clip-finetune")


def test_directories(tiny_vit, monkeypatch):
    """A directory is one model under all its spellings; the built-in one keeps its name."""
    ref = resolve(f"local-dir:{tiny_vit}")
    monkeypatch.chdir(tiny_vit.parent)
    assert ref == resolve(str(tiny_vit)) == resolve(f".{os.sep}{tiny_vit.name}") == resolve(tiny_vit.name)
    assert ref.kind == "local"
    if BUILTIN_DIR.is_dir():
        assert resolve(str(BUILTIN_DIR)) == ModelRef("builtin", "builtin", directory=BUILTIN_DIR)


def test_names_cost_no_torch(isolated):
    """Resolving and listing import neither torch nor open_clip nor numpy."""
    code = (
        "import sys; from clipkit.models.catalog import resolve, pretrained; resolve('vit-b/32'), pretrained();"
        "print([m for m in ('torch', 'open_clip', 'numpy', 'huggingface_hub') if m in sys.modules])"
    )
    assert isolated(code).strip() == "[]"
