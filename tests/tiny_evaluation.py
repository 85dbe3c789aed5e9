"""Clips of moving discs and networks of a few numbers, for the tests of the measures; the fixtures are in conftest."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from makeavideo.cli.evaluate import app
from makeavideo.media.writer import write_video

COLOURS = np.array([[220, 40, 40], [40, 160, 60], [50, 70, 210], [230, 180, 30], [150, 60, 180], [30, 170, 180]])


def moving_clip(seed: int, frames: int = 16, size: int = 64) -> np.ndarray:
    """Two coloured discs that move over white, uint8 (frames, size, size, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    clip = np.full((frames, size, size, 3), 255, np.uint8)
    for colour in COLOURS[rng.choice(len(COLOURS), 2, replace=False)]:
        centre, speed = rng.uniform(0.3, 0.7, 2) * size, rng.normal(0, 0.02, 2) * size
        radius, phase = rng.uniform(0.1, 0.2) * size, rng.uniform(0, 6)
        for t in range(frames):
            cy, cx = centre + speed * t + 2 * np.sin(t / 2 + phase)
            clip[t][(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = colour
    return clip


@pytest.fixture(scope="session")
def clips() -> np.ndarray:
    """uint8 (96, 16, 64, 64, 3)."""
    return np.stack([moving_clip(seed) for seed in range(96)])


@pytest.fixture(scope="session")
def folders(tmp_path_factory, clips):
    """Two folders of six videos each, of 24 frames of 32 pixels, with their prompts."""
    root = tmp_path_factory.mktemp("videos")
    for name, first in (("real", 100), ("made", 200)):
        for number in range(6):
            recipe = {"prompt": f"disc {number}"}
            write_video(root / name / f"{number}.mp4", moving_clip(first + number, 24, 32), 24, recipe)
    return root


class TinyI3D(nn.Module):
    """The call of the public i3d_torchscript.pt."""

    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False):
        assert not rescale and not resize and return_features
        assert x.size(1) == 3 and x.size(3) == 224 and x.size(4) == 224
        assert float(x.min()) >= -1 and float(x.max()) <= 1
        return torch.cat([x.mean((2, 3, 4)), (x[:, :, 1:] - x[:, :, :-1]).abs().mean((2, 3, 4))], 1)


class TinyInception(nn.Module):
    """The call of the public inception-2015-12-05.pt."""

    def forward(self, x: torch.Tensor, return_features: bool = False, no_output_bias: bool = False):
        assert x.dtype == torch.uint8
        pooled = torch.nn.functional.adaptive_avg_pool2d(x.float(), 2).flatten(1) / 255
        return pooled if return_features else (8 * pooled).softmax(1)


class TinyC3D(nn.Module):
    def forward(self, x: torch.Tensor):
        assert x.size(1) == 3 and x.size(3) == 112
        return torch.nn.functional.adaptive_avg_pool3d(x, 2).flatten(1) * 4


def scripted(module: nn.Module, path):
    torch.jit.script(module).save(str(path))
    return path


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """Small networks of every kind, saved as a user would have them."""
    from transformers import (
        CLIPConfig,
        CLIPModel,
        VideoMAEConfig,
        VideoMAEForVideoClassification,
        ViTConfig,
        ViTForImageClassification,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    root = tmp_path_factory.mktemp("networks")
    scripted(TinyI3D(), root / "i3d.pt")
    scripted(TinyInception(), root / "inception.pt")
    scripted(TinyC3D(), root / "c3d.pt")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    picture = {"image_size": 32, "patch_size": 8}
    VideoMAEForVideoClassification(VideoMAEConfig(**size, **picture)).save_pretrained(root / "videomae")
    VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        root / "videomae"
    )
    ViTForImageClassification(ViTConfig(**size, **picture, num_labels=5)).save_pretrained(root / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(root / "vit")
    save_clip(root / "clip", CLIPModel, CLIPConfig, CLIPImageProcessorPil, size, picture)
    return root


def save_clip(folder, model, config, processor, size, picture) -> None:
    from transformers import BertTokenizerFast

    from conftest import WORDS

    folder.mkdir()
    words = [*WORDS, "disc", *"012345"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    tokens = {"vocab_size": len(words), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = {**size, **tokens, "max_position_embeddings": 12}
    model(config(text_config=text, vision_config={**size, **picture}, projection_dim=8)).save_pretrained(folder)
    processor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def correlated(count: int, dim: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dim, dim)) + seed * 0.05 * rng.normal(size=(dim, dim))
    return rng.normal(size=(count, dim)) @ mixing + shift


def run(*arguments) -> dict:
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)
