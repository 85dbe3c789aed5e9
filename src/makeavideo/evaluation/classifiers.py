"""Classifiers behind the interface of `features`: what the Inception Score looks at frames or clips through."""

from pathlib import Path

import numpy as np
import torch

from .features import (
    Emoji,
    FeatureNetwork,
    Frames,
    Inception,
    channels_first,
    hash_of,
    load_processor,
    load_torchscript,
    load_transformers,
    resized,
)


class InceptionClassifier(Inception):
    """Logarithms of the class probabilities; no_output_bias=True, as the original Inception Score was computed."""

    name = "Inception Score"

    def frame_features(self, frames):
        images = channels_first(frames[None])[0].contiguous()
        return self.network(images, no_output_bias=True).clamp_min(1e-20).log()


class ImageClassifier(Frames):
    """Logits of any transformers image classifier."""

    def __init__(self, folder: str | Path):
        from transformers import AutoModelForImageClassification

        self.network = load_transformers(AutoModelForImageClassification, folder, "image classifier")
        self.processor, self.weights = load_processor(folder), hash_of(folder)
        self.name = f"Inception Score, {self.network.config.model_type} classes"

    def frame_features(self, frames):
        return self.network(pixel_values=self.processor(list(frames), return_tensors="pt")["pixel_values"]).logits


class ClipClassifier:
    """Logits of a TorchScript classifier of clips, called with (n, 3, frames, size, size) in [-1, 1].

    The Inception Score of UCF-101 is usually that of C3D, fine-tuned on UCF-101 (Saito et al., arXiv 1611.06624), which
    sees 16 frames of 112 pixels.
    """

    name = "Inception Score, clip classifier"

    def __init__(self, path: str | Path, trust: bool = False, size: int = 112):
        self.network, self.weights, self.size = load_torchscript(path, trust), hash_of(path), size

    @torch.no_grad()
    def __call__(self, videos: np.ndarray) -> np.ndarray:
        pixels = resized(channels_first(videos), self.size, antialias=False) / 127.5 - 1
        return self.network(pixels.transpose(1, 2).contiguous()).float().flatten(1).numpy()


class EmojiClassifier(Emoji):
    """Logits of the emoji network's concepts."""

    name = "Inception Score, emoji classes"

    @torch.no_grad()
    def __call__(self, videos: np.ndarray) -> np.ndarray:
        return self.network.concept(torch.from_numpy(super().__call__(videos))).numpy()


def classifier(spec: str | Path, clips: bool = False, trust: bool = False) -> tuple[FeatureNetwork, bool]:
    """The network for IS and whether it sees clips (True) or single frames.

    "emoji"; a TorchScript file, if there is `trust`, Inception or, with `clips`, a classifier of clips; a transformers
    classifier's folder.
    Raises UserError.
    """
    path = Path(spec)
    if str(spec) == "emoji":
        return EmojiClassifier(), True
    if path.is_dir():
        return ImageClassifier(path), False
    return (ClipClassifier(path, trust), True) if clips else (InceptionClassifier(path, trust), False)
