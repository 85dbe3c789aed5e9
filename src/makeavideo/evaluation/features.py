"""Feature networks behind one small interface: what the Fréchet distances look at videos and frames through.

Nothing is downloaded here: a network is a file or a folder that the user names. Its weights' hash goes into every
result, because figures of two different networks cannot be compared.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..quiet import quiet_libraries
from .emoji_features import EmojiFeatures
from .trust import check_trusted

EMOJI_FOLDERS = (Path("models/emoji-features"), Path(__file__).resolve().parents[3] / "models" / "emoji-features")


class FeatureNetwork(Protocol):
    """Videos, uint8 (n, frames, height, width, 3), to float32 (n, dim). Frames count as videos of one frame."""

    name: str
    """What a Fréchet distance on these features is called: "FVD" and "FID" for the networks that the names stand for,
    otherwise with its qualifier."""
    weights: str
    """First 16 hexadecimal digits of a hash of the weights."""

    def __call__(self, videos: np.ndarray) -> np.ndarray: ...


def hash_of(path: str | Path) -> str:
    """First 16 hexadecimal digits of a hash over a file, or over all weights of a folder."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    digest = hashlib.blake2b()
    for file in files:
        with file.open("rb") as stream:
            while part := stream.read(2**24):
                digest.update(part)
    return digest.hexdigest()[:16]


def channels_first(videos: np.ndarray) -> Tensor:
    """uint8 (n, frames, h, w, 3) -> uint8 (n, frames, 3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(videos)).permute(0, 1, 4, 2, 3)


def resized(videos: Tensor, size: int, antialias: bool) -> Tensor:
    """uint8 (n, frames, 3, h, w) -> float (n, frames, 3, size, size), 0..255, bilinear, proportions not kept."""
    frames = videos.flatten(0, 1).float()
    if frames.shape[-2:] != (size, size):
        frames = F.interpolate(frames, (size, size), mode="bilinear", align_corners=False, antialias=antialias)
    return frames.clamp(0, 255).unflatten(0, videos.shape[:2])  # sums of weights can round to just above 1


def load_torchscript(path: str | Path, trust: bool) -> torch.jit.ScriptModule:
    """Raises UserError: no such file, not TorchScript, or not trusted (its code runs)."""
    if not Path(path).is_file():
        raise UserError(f"There is no TorchScript file at {path}: give the path of the network that you fetched.")
    check_trusted(path, trust)
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{path} cannot be loaded as TorchScript ({reason}): give a .pt file of torch.jit.save."
        ) from None


def load_transformers(loader, folder: str | Path, what: str):
    """`loader.from_pretrained(folder)`, offline and from safetensors. Raises UserError if that fails."""
    if not (Path(folder) / "config.json").is_file():  # transformers would take the path for the name of a repository
        raise UserError(f"There is no {what} at {folder} (no config.json): give a transformers folder.")
    try:
        with quiet_libraries():
            return loader.from_pretrained(folder, use_safetensors=True).eval().requires_grad_(False)
    except Exception as error:  # whatever it is that a library stumbles over in a damaged file
        reason = str(error).split("\n")[0]
        raise UserError(f"The {what} at {folder} cannot be loaded from safetensors: {reason}") from None


def load_processor(folder: str | Path):
    """The folder's image processor, the one without torchvision. Raises UserError if there is none."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil")
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{folder} has no image processor ({reason}): add its preprocessor_config.json.") from None


class I3D:
    """The public i3d_torchscript.pt (Carreira and Zisserman, arXiv 1705.07750; Kinetics-400), 400 numbers a clip.

    It is the network of the original FVD (Unterthiner et al., arXiv 1812.01717), which StyleGAN-V (arXiv 2112.14683)
    carried over to TorchScript. It is called with (n, 3, frames, 224, 224) in [-1, 1], rescale=False, resize=False,
    return_features=True. At least 10 frames.
    """

    name = "FVD"
    size = 224

    def __init__(self, path: str | Path, trust: bool = False):
        self.network, self.weights = load_torchscript(path, trust), hash_of(path)

    @torch.no_grad()
    def __call__(self, videos: np.ndarray) -> np.ndarray:
        pixels = resized(channels_first(videos), self.size, antialias=False) / 127.5 - 1
        clips = pixels.transpose(1, 2).contiguous()
        return self.network(clips, rescale=False, resize=False, return_features=True).float().flatten(1).numpy()


class VideoMAE:
    """A transformers VideoMAE (arXiv 2203.12602): the mean over its tokens, normalised as before its classifier.

    Features of a network trained without labels look at motion more than I3D does (Ge et al., arXiv 2404.12391). The
    clip must have as many frames as the configuration says, 16 in the public ones.
    """

    name = "FVD, VideoMAE features"

    def __init__(self, folder: str | Path):
        from transformers import VideoMAEForVideoClassification, VideoMAEModel

        self.network = load_transformers(VideoMAEModel, folder, "VideoMAE")
        if "VideoMAEForVideoClassification" in (self.network.config.architectures or []):
            self.network = load_transformers(VideoMAEForVideoClassification, folder, "VideoMAE")
            self.network.classifier = nn.Identity()
        self.processor, self.weights = load_processor(folder), hash_of(folder)

    @torch.no_grad()
    def __call__(self, videos: np.ndarray) -> np.ndarray:
        expected = self.network.config.num_frames
        if videos.shape[1] != expected:
            raise UserError(
                f"This VideoMAE reads clips of {expected} frames, not {videos.shape[1]}: set the frames so."
            )
        pixels = self.processor([list(video) for video in videos], return_tensors="pt")["pixel_values"]
        output = self.network(pixel_values=pixels)
        features = output.logits if "logits" in output else output.last_hidden_state.mean(1)
        return features.float().numpy()


class Emoji:
    """The repository's own network, a stand-in for emoji clips: see `emoji_features`."""

    name = "Fréchet distance, emoji features"

    def __init__(self, folder: str | Path | None = None):
        folder = Path(folder) if folder else next((f for f in EMOJI_FOLDERS if f.is_dir()), EMOJI_FOLDERS[0])
        self.network, self.weights = EmojiFeatures.load(folder), hash_of(folder)

    @torch.no_grad()
    def __call__(self, videos: np.ndarray) -> np.ndarray:
        if videos.shape[1] % 4:
            raise UserError(
                f"The emoji features read a multiple of 4 frames, not {videos.shape[1]}: set the frames so."
            )
        return self.network(resized(channels_first(videos), 64, antialias=True) / 127.5 - 1).numpy()


class Frames:
    """Base of the networks that see single frames; of a longer video they give the mean."""

    def frame_features(self, frames: np.ndarray) -> Tensor:
        """uint8 (n, h, w, 3) -> (n, dim)."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, videos: np.ndarray) -> np.ndarray:
        features = self.frame_features(videos.reshape(-1, *videos.shape[2:])).float()
        return features.unflatten(0, videos.shape[:2]).mean(1).numpy()


class Inception(Frames):
    """The public inception-2015-12-05.pt, 2,048 numbers a picture: the network of FID (arXiv 1706.08500) and IS.

    It is called as StyleGAN does: uint8 (n, 3, h, w), return_features=True; it resizes by itself.
    """

    name = "FID"

    def __init__(self, path: str | Path, trust: bool = False):
        self.network, self.weights = load_torchscript(path, trust), hash_of(path)

    def frame_features(self, frames):
        return self.network(channels_first(frames[None])[0].contiguous(), return_features=True)


class ImageModel(Frames):
    """Any transformers image model: its pooled output, or the mean over its tokens."""

    def __init__(self, folder: str | Path):
        from transformers import AutoModel

        self.network = load_transformers(AutoModel, folder, "image model")
        self.network = getattr(self.network, "vision_model", self.network)
        self.processor, self.weights = load_processor(folder), hash_of(folder)
        self.name = f"Fréchet distance, {self.network.config.model_type} features"

    def frame_features(self, frames):
        output = self.network(pixel_values=self.processor(list(frames), return_tensors="pt")["pixel_values"])
        pooled = output.get("pooler_output")
        return (output.last_hidden_state.mean(1) if pooled is None else pooled).flatten(1)


def model_type(folder: Path) -> str | None:
    """What config.json says, None where it says nothing."""
    import json

    try:
        return json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError) as error:
        raise UserError(f"There is no network at {folder} ({error}): give a file or a transformers folder.") from None


def video_features(spec: str | Path, trust: bool = False) -> FeatureNetwork:
    """The network for FVD: "emoji", an I3D file or a VideoMAE folder (or a folder of emoji features).

    Args:
        trust: a file, which is TorchScript, may run its code.

    Raises:
        UserError: nothing there, something else, or a file without `trust`.
    """
    path = Path(spec)
    if str(spec) == "emoji":
        return Emoji()
    if not path.is_dir():
        return I3D(path, trust)
    kind = model_type(path)
    if kind is None:
        return Emoji(path)
    if kind != "videomae":
        raise UserError(f"{path} holds a {kind}, which has no video features: give a VideoMAE folder or an I3D file.")
    return VideoMAE(path)


def image_features(spec: str | Path, trust: bool = False) -> FeatureNetwork:
    """The network for FID: an Inception file, if there is `trust`, or any transformers image model's folder.

    Raises UserError.
    """
    path = Path(spec)
    return ImageModel(path) if path.is_dir() else Inception(path, trust)


def in_batches(network: Callable[[np.ndarray], np.ndarray], items: np.ndarray, batch_size: int) -> np.ndarray:
    """`network` on parts of `items` (n, ...), so that a long video does not go through at once."""
    parts = [network(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
    return np.concatenate(parts)
