"""Any open_clip model on cpu, cuda or mps, loaded so that it cannot be silently wrong."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models import tokenizer as bpe
from clipkit.models.device import Precision, resolve_precision, torch_dtype
from clipkit.models.offline import no_network
from clipkit.models.preprocess import make_preprocess
from clipkit.models.text_tower import encode_trimmed, trimmable
from clipkit.models.weights import Safetensors, weights_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from numpy.typing import NDArray

    from clipkit.models.clip import Preprocess
    from clipkit.models.locate import Located

_log = logging.getLogger(__name__)
_TEXT_BATCH = 256


class TorchClip:
    """An open_clip model behind the `Clip` interface; `model`, `torch_device` and `dtype` are for tasks that need more.

    `model` is in eval mode and its parameters take no gradient (pixels may).
    """

    engine: Literal["torch"] = "torch"

    def __init__(
        self,
        model: torch.nn.Module,
        tokenize: Callable[[Sequence[str]], NDArray[np.int64]],
        *,
        model_id: str,
        digest: str,
        tokenizer_key: str,
        embed_dim: int,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        """Wrap a model that is on its device already.

        Args:
            model: An open_clip CLIP, CustomTextCLIP or CoCa with weights.
            tokenize: N texts -> (N, context length) token ids.
            model_id: The name records carry.
            digest: First 12 hex digits of the weights file's SHA-256.
            tokenizer_key: Names the tokenizer and its context length.
            embed_dim: D, the width of the joint space.
            device: Where the model is.
            precision: What its towers compute in.
        """
        import torch

        self.model = model.eval().requires_grad_(requires_grad=False)
        self.tokenize = tokenize
        self.id = model_id
        self.weights_hash = digest
        self.device = device
        self.torch_device = torch.device(device)
        self.dtype = torch_dtype(precision)
        visual: Any = model.visual
        self.preprocess: Preprocess = make_preprocess(visual.preprocess_cfg, visual.preprocess_cfg["size"])
        self.trims_tokens = trimmable(model)
        scale: Any = model.logit_scale
        bias: Any = getattr(model, "logit_bias", None)
        self.logit_scale = float(scale.detach().float().exp().reshape(-1)[0])
        self.logit_bias = None if bias is None else float(bias.detach().float().reshape(-1)[0])
        self.text_key = f"{digest}-{tokenizer_key}" + ("" if precision == "fp32" else f"-{precision}")
        self.embed_dim = embed_dim

    def encode_images(self, pixels: NDArray[np.float32], *, normalize: bool = True) -> NDArray[np.float32]:
        """(N, 3, H, W) preprocessed pixels -> (N, D)."""
        import torch

        if not len(pixels):
            return np.zeros((0, self.embed_dim), np.float32)
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.torch_device, self.dtype)
            return self._numpy(self.model.encode_image(batch), normalize=normalize)  # type: ignore[operator]

    def encode_texts(self, texts: Sequence[str], *, normalize: bool = True) -> NDArray[np.float32]:
        """N texts -> (N, D), in batches of like length, trimmed to the last end token where the tower allows it."""
        import torch

        if not texts:
            return np.zeros((0, self.embed_dim), np.float32)
        tokens = self.tokenize(texts)
        out = np.empty((len(texts), self.embed_dim), np.float32)
        with torch.inference_mode():
            for rows, batch in bpe.trimmed_batches(tokens, _TEXT_BATCH, trim=self.trims_tokens):
                ids = torch.from_numpy(batch).to(self.torch_device)
                found = encode_trimmed(self.model, ids) if self.trims_tokens else self.model.encode_text(ids)  # type: ignore[operator]
                out[rows] = self._numpy(found, normalize=normalize)
        return out

    @staticmethod
    def _numpy(features: torch.Tensor, *, normalize: bool) -> NDArray[np.float32]:
        import torch

        features = features.float()
        if normalize:
            features = torch.nn.functional.normalize(features, dim=-1)
        return np.asarray(features.cpu().numpy(), np.float32)


def load_torch(located: Located, device: str, precision: str) -> TorchClip:
    """Build a `TorchClip` from files that are here. Nothing is downloaded.

    Raises:
        ModelError: damaged weights, or weights that do not fit the config.
        ModelUnavailableError: the text tower needs transformers, which is not installed.
    """
    if located.weights.suffix == ".safetensors":
        Safetensors(located.weights)  # a damaged file is told before torch is imported
    with no_network(), warnings.catch_warnings():
        # The mismatch that open_clip only warns of is an error here; the guards above it should make it impossible.
        warnings.filterwarnings("error", message="QuickGELU mismatch", category=UserWarning)
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        model_cfg = _model_cfg(located)
        native = not model_cfg["vision_cfg"].get("timm_model_name") and not model_cfg["text_cfg"].get("hf_model_name")
        chosen = resolve_precision(precision, device, native=native)
        model = _create(located, model_cfg, device, chosen)
        tokenize, tokenizer_key = _tokenizer(located, model_cfg["text_cfg"])
    return TorchClip(
        model,
        tokenize,
        model_id=located.ref.id,
        digest=weights_hash(located.weights),
        tokenizer_key=tokenizer_key,
        embed_dim=int(model_cfg["embed_dim"]),
        device=device,
        precision=chosen,
    )


def _model_cfg(located: Located) -> dict[str, Any]:
    if located.model_cfg is not None:
        return located.model_cfg
    import open_clip

    found = open_clip.get_model_config(located.ref.arch)
    if found is None:
        raise ModelError(
            f"the installed open_clip does not know the architecture {located.ref.arch}: upgrade open_clip_torch"
        )
    return dict(found)


def _create(located: Located, model_cfg: dict[str, Any], device: str, precision: Precision) -> torch.nn.Module:
    import open_clip

    ref = located.ref
    overrides: dict[str, Any] = {}
    if located.text_model is not None:
        _need_transformers(ref.id)
        overrides["text_cfg"] = model_cfg["text_cfg"] | {
            "hf_model_name": str(located.text_model),
            "hf_model_pretrained": False,
        }
    if located.directory is not None:
        name, pretrained = f"local-dir:{located.directory}", None
    else:
        # Given as a file, the tag's own preprocessing and activation must be passed along.
        name, pretrained = ref.arch, str(located.weights)
        overrides["force_preprocess_cfg"] = _tag_preprocess(ref.arch, ref.tag)
        overrides["force_quick_gelu"] = ref.quick_gelu
        if ref.note:
            _log.info(ref.note)
    quiet = logging.getLogger()
    level = quiet.level
    quiet.setLevel(max(level, logging.ERROR))  # open_clip logs each step through the root logger
    try:
        model: torch.nn.Module = open_clip.create_model(
            name,
            pretrained,
            precision=precision,
            device=device,
            require_pretrained=True,
            weights_only=True,
            **overrides,
        )
    except Exception as error:
        raise ModelError(_what_failed(located, error)) from error
    finally:
        quiet.setLevel(level)
    return model


def _tag_preprocess(arch: str, tag: str) -> dict[str, Any]:
    from open_clip.pretrained import get_pretrained_cfg

    found = get_pretrained_cfg(arch, tag)
    return {key: found[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in found}


def _what_failed(located: Located, error: Exception) -> str:
    text = " ".join(str(error).split())
    head = f"cannot load {located.ref.id} from {located.weights}"
    if "weights_only" in text or "TorchScript" in text or "Weights only load failed" in text:
        return (
            f"{head}: the file is no plain checkpoint (OpenAI's .pt files are TorchScript programs, which clipkit does not "
            f"run); `clipkit models pull {located.ref.id}` fetches safetensors instead"
        )
    if "size mismatch" in text or "Missing key" in text or "Unexpected key" in text:
        return f"{head}: the weights do not fit the config: {text[:300]}"
    return f"{head} ({type(error).__name__}: {text[:300]}); `clipkit models verify` checks the file, pull it again"


def _tokenizer(located: Located, text_cfg: dict[str, Any]) -> tuple[Callable[[Sequence[str]], NDArray[np.int64]], str]:
    """The tokenizer of the model's config, and a key that changes with it."""
    context = int(text_cfg.get("context_length") or bpe.CONTEXT_LENGTH)
    options = deepcopy(text_cfg.get("tokenizer_kwargs") or {})
    if name := text_cfg.get("hf_tokenizer_name"):
        _need_transformers(located.ref.id)
        from open_clip.tokenizer import HFTokenizer

        source = str(located.tokenizer or name)
        theirs = HFTokenizer(source, context_length=context, tokenizer_mode=text_cfg.get("tokenizer_mode"), **options)
    elif options:
        from open_clip.tokenizer import SimpleTokenizer

        theirs = SimpleTokenizer(context_length=context, **options)
    else:
        return bpe.ClipTokenizer(context), f"{bpe.ClipTokenizer.name}-{context}"

    def tokenize(texts: Sequence[str]) -> NDArray[np.int64]:
        return np.asarray(theirs(list(texts)).numpy(), np.int64)

    described = json.dumps([name or "simple", text_cfg.get("tokenizer_mode"), options], sort_keys=True)
    return tokenize, f"{hashlib.sha256(described.encode()).hexdigest()[:8]}-{context}"


def _need_transformers(model_id: str) -> None:
    import importlib.util

    if importlib.util.find_spec("transformers") is None:
        raise ModelUnavailableError(
            f"{model_id} reads text with transformers, which is not installed: pip install 'clipkit-vision[hf]'"
        )
