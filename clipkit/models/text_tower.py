"""open_clip's text towers on trimmed tokens: the same numbers as `encode_text`, without paying for the padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def trimmable(model: torch.nn.Module) -> bool:
    """Whether what follows the end token cannot change a text's embedding: a causal tower that pools by argmax."""
    tower: Any = getattr(model, "text", model)
    pool = getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", None)
    return (
        hasattr(tower, "token_embedding")
        and hasattr(tower, "positional_embedding")
        and pool == "argmax"
        and getattr(tower, "attn_mask", None) is not None
        and getattr(tower, "cls_emb", None) is None
    )


def encode_trimmed(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """(N, L) tokens of a `trimmable` model -> (N, D), not normalised, for any L up to the context length.

    The steps of `open_clip.CLIP.encode_text` with the positional embedding and the causal mask cut to L; the final norm acts
    on each token alone, so it is applied to the pooled one only.
    """
    import torch

    tower: Any = getattr(model, "text", model)
    length = tokens.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    x: torch.Tensor = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    x = tower.ln_final(x[torch.arange(x.shape[0], device=x.device), tokens.argmax(dim=-1)])
    projection = tower.text_projection
    if isinstance(projection, torch.nn.Linear):
        x = projection(x)
    elif projection is not None:
        x = x @ projection
    return x
