"""The text side of GLIP: BERT (Devlin et al. 2019), whose layers also stand in the head, and its tokenizer."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models.locate import cached_file

if TYPE_CHECKING:
    from pathlib import Path

HEAD_WIDTH = 64
EPSILON = 1e-12
# The authors keep activations within this range, first for half precision's sake; the weights are used to it.
LIMIT = 50_000.0
REPOS = ("google-bert/bert-base-uncased", "bert-base-uncased")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")


@dataclass(frozen=True, slots=True)
class BertSizes:
    """Rows of the three embeddings, channels, layers, and channels within the feed-forward part."""

    words: int
    positions: int
    types: int
    width: int
    layers: int
    inner: int


class BertLayer(nn.Module):
    """Self-attention and a feed-forward part, each normalised after its sum."""

    def __init__(self, width: int, inner: int, *, clamped: bool = False) -> None:
        """`clamped` keeps activations within `LIMIT`, as in the head."""
        super().__init__()
        self.limit = LIMIT if clamped else float("inf")
        self.heads = max(width // HEAD_WIDTH, 1)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width, eps=EPSILON)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, T, width)` -> the same shape; all tokens are text, none is padding."""
        query, key, value = (
            layer(x).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = self._within(query @ key.transpose(2, 3) * query.shape[-1] ** -0.5)
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        x = self.attended_norm(x + self.attended(mixed))
        inner = self._within(functional.gelu(self._within(self.up(x))))
        return self._within(self.norm(x + self._within(self.down(inner))))

    def _within(self, x: Tensor) -> Tensor:
        return x.clamp(-self.limit, self.limit)


class Bert(nn.Module):
    """Token ids to one vector a token."""

    def __init__(self, sizes: BertSizes) -> None:
        """Make the layers of the sizes."""
        super().__init__()
        self.words = nn.Embedding(sizes.words, sizes.width)
        self.positions = nn.Embedding(sizes.positions, sizes.width)
        self.types = nn.Embedding(sizes.types, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.layers = nn.Sequential(*(BertLayer(sizes.width, sizes.inner) for _ in range(sizes.layers)))

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids `(N, T)` without padding -> `(N, T, width)`."""
        x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0]
        return self.layers(self.norm(x))  # type: ignore[no-any-return]


class BertTokenizer:
    """A caption to token ids and the characters of each token."""

    def __init__(self, path: Path) -> None:
        """Read `tokenizer.json` or `vocab.txt`.

        Raises:
            ModelError: the file is no tokenizer of BERT's kind.
        """
        import tokenizers

        try:
            if path.suffix == ".json":
                self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
            else:
                self.tokenizer = tokenizers.BertWordPieceTokenizer(str(path), lowercase=True)
            self.tokenizer.no_padding()
            self.tokenizer.no_truncation()
            ends = self("a")[0]
        except Exception as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"{path} does not load as BERT's tokenizer: {first}") from error
        if len(ends) < 3 or self.tokenizer.token_to_id("[CLS]") != ends[0]:
            raise ModelError(f"{path} is not BERT's tokenizer: it puts no [CLS] and [SEP] around a text")

    @property
    def size(self) -> int:
        """How many ids there are."""
        return int(self.tokenizer.get_vocab_size())

    def __call__(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids with `[CLS]` and `[SEP]`, and the characters of each, `(0, 0)` for these two."""
        encoded = self.tokenizer.encode(text)
        return list(encoded.ids), [(start, end) for start, end in encoded.offsets]


def find_tokenizer(weights: Path) -> Path:
    """BERT's `tokenizer.json` or `vocab.txt`: beside the weights, in a folder `tokenizer` there, or in the hub's cache.

    Raises:
        ModelUnavailableError: it is not on this machine, or the package that reads it is not.
    """
    if importlib.util.find_spec("tokenizers") is None:
        raise ModelUnavailableError(
            "glip's text needs tokenizers, which is not installed: pip install 'clipkit-vision[hf]'"
        )
    near = [folder / name for folder in (weights.parent / "tokenizer", weights.parent) for name in TOKENIZER_FILES]
    if found := next((path for path in near if path.is_file()), None):
        return found
    for repo in REPOS:
        for name in TOKENIZER_FILES:
            if (cached := cached_file(repo, name)) is not None:
                return cached
    raise ModelUnavailableError(
        f"glip's tokenizer is not on this machine: `hf download {REPOS[0]} {TOKENIZER_FILES[0]}` fetches it, "
        f"or put BERT's vocab.txt (bert-base-uncased) beside {weights.name}"
    )
