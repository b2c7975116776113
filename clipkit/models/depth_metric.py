"""Models trained on metres, through transformers and from files that are here: Depth Anything V2, ZoeDepth, Depth Pro."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.depth.estimator import Estimate
from clipkit.errors import ModelError, ModelUnavailableError
from clipkit.models.weights import weights_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
FARTHEST = 1e4  # Depth Pro's own ceiling: 10 km
STRAIGHT = 180.0  # degrees; no pinhole sees as much


@dataclass(frozen=True, slots=True)
class Kind:
    """One method: the `model_type` its config must have, and the repository its authors published for indoor metres."""

    model_type: str
    repo: str


KINDS = {
    "depth-anything": Kind("depth_anything", "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"),
    "zoedepth": Kind("zoedepth", "Intel/zoedepth-nyu-kitti"),
    "depth-pro": Kind("depth_pro", "apple/DepthPro-hf"),
}


class MetricDepth:
    """A transformers depth model with its own image processor, which knows the sizes, the padding and the units."""

    metric = True
    flips = False

    def __init__(self, method: str, model: Any, processor: Any, *, model_id: str, digest: str, device: str) -> None:
        """Wrap a model that is on `device` already.

        Args:
            method: a key of `KINDS`.
            model: a transformers depth model.
            processor: its image processor.
            model_id: the name records carry.
            digest: first 12 hex digits of the weights' SHA-256.
            device: where the model is.

        Raises:
            ModelError: a model of relative depth, whose values have no unit.
        """
        if getattr(model.config, "depth_estimation_type", "metric") != "metric":
            raise ModelError(
                f"{model_id} gives relative inverse depth, which has no unit; take a metric one, for instance "
                f"{KINDS['depth-anything'].repo}"
            )
        self.method = method
        self.id = model_id
        self.weights_hash = digest
        self._model = model.eval().requires_grad_(requires_grad=False)
        self._processor = processor
        self._device = device

    def estimate(self, image: NDArray[np.uint8]) -> Estimate:
        """The depth of an `(H, W, 3)` RGB image at its own size, metres."""
        import torch

        size = (image.shape[0], image.shape[1])
        with torch.inference_mode():
            # uint8 goes in, so that the processor's own scaling holds; a copy, because it wants to own the array.
            inputs = self._processor(images=[image.copy()], return_tensors="pt", input_data_format="channels_last")
            pixels = inputs["pixel_values"].to(self._device, self._model.dtype)
            outputs = self._model(pixel_values=pixels)
            outputs.predicted_depth = outputs.predicted_depth.float()
            extra = {"source_sizes": [size]} if self.method == "zoedepth" else {}
            found = self._processor.post_process_depth_estimation(outputs, target_sizes=[size], **extra)[0]
        depth = np.asarray(found["predicted_depth"].float().cpu().numpy(), np.float32).reshape(size)
        seen = found.get("field_of_view")
        fov = None if seen is None else float(seen)
        # Bicubic resizing overshoots; a distance is never negative.
        depth = np.clip(np.nan_to_num(depth, nan=0.0, posinf=FARTHEST, neginf=0.0), 0.0, FARTHEST)
        return Estimate(np.asarray(depth, np.float32), fov=fov if fov is not None and 0 < fov < STRAIGHT else None)


def load_metric(method: str, model: str | None, device: str | None, precision: str | None) -> MetricDepth:
    """A metric model from a transformers directory or from what the hub cache holds. Nothing is downloaded.

    Args:
        method: a key of `KINDS`.
        model: a directory or a hub repository; None is the method's own.
        device: as `load_clip` takes it.
        precision: `auto` is float32, because half precision rounds metres.

    Raises:
        ModelUnavailableError: transformers is not installed, or the model is not on this machine.
        ModelError: the files are of another model, incomplete, or of relative depth.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ModelUnavailableError(
            f"--method {method} needs transformers, which is not installed: pip install 'clipkit-vision[hf]'"
        )
    from clipkit.models.device import resolve_device, resolve_precision, torch_dtype
    from clipkit.models.offline import no_network
    from clipkit.settings import setting

    name = model or KINDS[method].repo
    directory = find_directory(method, name)
    file = next((directory / file for file in WEIGHTS if (directory / file).is_file()), None)
    if file is None:
        raise ModelError(f"{directory} has no {WEIGHTS[0]}; copy or download the model again")
    place = resolve_device(setting("device", device))
    asked = setting("precision", precision)
    dtype = torch_dtype(resolve_precision("fp32" if asked == "auto" else asked, place))
    with no_network():
        loaded, processor = _load(method, directory)
    return MetricDepth(
        method,
        loaded.to(place, dtype),
        processor,
        model_id=f"{method}/{Path(name).name}",
        digest=weights_hash(file),
        device=place,
    )


def find_directory(method: str, name: str) -> Path:
    """A directory, or the snapshot of a hub repository.

    Raises:
        ModelUnavailableError: neither is here.
    """
    from clipkit.models.locate import cached_file

    directory = Path(name).expanduser()
    if (directory / "config.json").is_file():
        return directory
    config = None if directory.is_dir() else cached_file(name.removeprefix("hf-hub:"), "config.json")
    if config is None:
        raise ModelUnavailableError(
            f"{name} is not on this machine: `hf download {name}` fetches it, or name a directory with "
            f"--method {method} --model DIR"
        )
    return config.parent


def _load(method: str, directory: Path) -> tuple[Any, Any]:
    import transformers

    quiet = logging.getLogger("transformers")
    level, bars = quiet.level, transformers.utils.logging.is_progress_bar_enabled()
    quiet.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
        _check_kind(method, directory, config.model_type)
        model, report = transformers.AutoModelForDepthEstimation.from_pretrained(
            directory, local_files_only=True, output_loading_info=True
        )
        processor = transformers.AutoImageProcessor.from_pretrained(directory, local_files_only=True)
    except ModelError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"cannot load {method} from {directory} ({type(error).__name__}: {text})") from error
    finally:
        quiet.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
    # transformers fills what it does not find with random numbers and only warns
    if report["missing_keys"] or report.get("mismatched_keys"):
        missing = sorted(report["missing_keys"])
        what = f"{missing[0]} is missing" if missing else "a weight has the wrong shape"
        raise ModelError(f"{directory} is no complete {method}: {what}; download it again")
    return model, processor


def _check_kind(method: str, directory: Path, found: str) -> None:
    if found != KINDS[method].model_type:
        fitting = next((name for name, kind in KINDS.items() if kind.model_type == found), None)
        remedy = f"take --method {fitting}" if fitting else f"take {KINDS[method].repo}"
        raise ModelError(f"{directory} holds a {found} model, not one of {method}: {remedy}")
