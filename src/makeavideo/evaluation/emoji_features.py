"""A small feature network for emoji clips, and its training.

    python -m makeavideo.evaluation.emoji_features recipes/evaluation/emoji-features.yaml

The public feature networks (I3D, VideoMAE) have to be fetched and were trained on photographs. This one is a stand-in
for the figures of the emoji cascade: a Fréchet distance on its features is a "Fréchet distance, emoji features" and
never an FVD. It sees appearance and motion, because it is trained to tell apart, on the clips that the video stages
train on, the concept, the rate of playing and its direction. The image tower of the cascade has no part in it, so that
the judge shares no weights with what it judges.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import UserError
from ..training.recipe import Strict
from ..yaml_text import parse_yaml

WEIGHTS = "model.safetensors"
CHANGE_GAIN = 4.0
"""Changes from frame to frame are about this much smaller than the pixels themselves."""


class Factorised(nn.Module):
    """3 x 3 in space, then 3 in time: the paper's pseudo-3D layer, here with normalisation and a shortcut."""

    def __init__(self, channels: int, out: int, space_stride: int = 1, time_stride: int = 1):
        super().__init__()
        self.space = nn.Conv2d(channels, out, 3, space_stride, 1, bias=False)
        self.space_norm = nn.BatchNorm2d(out)
        self.time = nn.Conv2d(out, out, (3, 1), (time_stride, 1), (1, 0), bias=False)
        self.time_norm = nn.BatchNorm2d(out)
        self.shortcut = time_stride == 1

    def forward(self, x: Tensor, batch: int) -> Tensor:
        """(batch * frames, channels, h, w) -> (batch * frames / time_stride, out, h / space_stride, ...)."""
        x = F.relu(self.space_norm(self.space(x)))
        _, channels, height, width = x.shape
        # channels-last memory makes both reshapes views: time and position become the two axes of a picture
        folded = x.permute(0, 2, 3, 1).reshape(batch, -1, height * width, channels).permute(0, 3, 1, 2)
        y = self.time_norm(self.time(folded))
        y = F.relu(y + folded) if self.shortcut else F.relu(y)
        return y.permute(0, 2, 3, 1).reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class EmojiFeatures(nn.Module):
    """Clips (batch, frames, 3, 64, 64) in [-1, 1], a multiple of four frames -> features (batch, 4 * width).

    width: channels of the first stage.
    concepts: the keys that the first head tells apart.
    skips: how many source frames lie between two frames, for the second head; the third tells forwards from backwards.
    """

    def __init__(self, width: int, concepts: list[str], skips: int):
        super().__init__()
        self.config = {"width": width, "concepts": list(concepts), "skips": skips}
        self.stem = nn.Conv2d(6, width, 6, 4, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(
            [
                Factorised(width, width),
                Factorised(width, 2 * width, 2, 2),
                Factorised(2 * width, 4 * width, 2, 2),
                Factorised(4 * width, 4 * width),
            ]
        )
        self.norm = nn.BatchNorm1d(4 * width)
        self.concept = nn.Linear(4 * width, len(concepts))
        self.skip = nn.Linear(4 * width, skips)
        self.direction = nn.Linear(4 * width, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        # most pixels of an emoji stand still: shown the change as well, a small network finds the motion sooner
        change = F.pad(pixels.diff(dim=1), (0, 0) * 3 + (0, 1)) * CHANGE_GAIN
        x = torch.cat([pixels, change], 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.stem_norm(self.stem(x)))
        for block in self.blocks:
            x = block(x, pixels.shape[0])
        # every feature has unit size over the training clips, so that none outweighs the others in a distance
        return self.norm(x.mean((2, 3)).unflatten(0, (pixels.shape[0], -1)).mean(1))

    def save(self, folder: str | Path) -> None:
        """config.json and model.safetensors, half precision."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=1) + "\n")
        state = self.state_dict().items()
        save_file({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: str | Path) -> "EmojiFeatures":
        """The network of a folder that `save` wrote, float32, in evaluation mode.

        Raises:
            UserError: no such folder, or not this network's weights.
        """
        folder = Path(folder)
        try:
            network = cls(**json.loads((folder / "config.json").read_text()))
            network.load_state_dict(load_file(folder / WEIGHTS))
        except Exception as error:  # whatever it is that a library stumbles over in a damaged file
            reason = str(error).split("\n")[0]
            raise UserError(
                f"The emoji feature network at {folder} cannot be loaded ({reason}): "
                "train it with recipes/evaluation/emoji-features.yaml."
            ) from None
        return network.eval().requires_grad_(False)


class FeatureRecipe(Strict):
    """All that the training of the feature network depends on."""

    output: str = Field(description="folder for config.json, model.safetensors and training.json")
    clips: str = Field(description="folder of emoji clips")
    split: str = Field(description="JSON file that names the held-out ones, which are left out")
    size: int = Field(64, gt=0)
    num_frames: int = Field(16, gt=0, multiple_of=4)
    fps: float = Field(24.0, gt=0, description="the frame rate of the source clips")
    skips: int = Field(4, ge=2, description="rates told apart: fps, fps / 2 ... fps / skips")
    width: int = Field(32, gt=0)
    steps: int = Field(gt=0)
    batch_size: int = Field(32, gt=1)
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    motion_weight: float = Field(1.0, ge=0, description="weight of the rate's and the direction's loss")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    shift: int = Field(4, ge=0, description="random shift, in pixels")
    seed: int = Field(0, ge=0)
    threads: int = Field(1, gt=0)
    test_passes: int = Field(2, gt=0, description="samples a clip to measure accuracy on")
    cache_gb: float = Field(4.0, ge=0)


def load_feature_recipe(path: str | Path) -> FeatureRecipe:
    """Raises UserError: no such file, not YAML, or a wrong key."""
    try:
        return FeatureRecipe.model_validate(parse_yaml(Path(path).read_text("utf-8")))
    except (OSError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise UserError(f"The recipe {path} cannot be used ({reason}): see recipes/evaluation.") from None


def batch_of(clips, keys: list[tuple[int, int]], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Stack samples (index, seed), half of them played backwards.

    Returns pixels (batch, frames, 3, size, size), index of the clip, number of the rate, direction (each (batch,)).
    """
    samples = [clips[key] for key in keys]
    pixels = torch.stack([sample["pixels"] for sample in samples])
    fps = torch.tensor([sample["fps"] for sample in samples])
    backwards = torch.rand(len(samples), generator=generator) < 0.5
    pixels = torch.where(backwards[:, None, None, None, None], pixels.flip(1), pixels)
    index = torch.tensor([sample["index"] for sample in samples])
    return pixels, index, (clips.fps.high / fps).round().long() - 1, backwards.long()


def shifted(pixels: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Each clip moved by up to `shift` pixels, the border repeated: concepts must not be told by their place."""
    if not shift:
        return pixels
    height, width = pixels.shape[-2:]
    padded = F.pad(pixels.flatten(0, 1), (shift,) * 4, mode="replicate").unflatten(0, pixels.shape[:2])
    places = torch.randint(0, 2 * shift + 1, (len(pixels), 2), generator=generator).tolist()
    moved = [clip[:, :, y : y + height, x : x + width] for clip, (y, x) in zip(padded, places, strict=True)]
    return torch.stack(moved)


@torch.no_grad()
def accuracy(network: EmojiFeatures, clips, passes: int, seed: int, batch_size: int, known: bool) -> dict[str, float]:
    """Shares of clips whose concept (`known` ones only), rate and direction are found."""
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    # a seed of its own for each sample: it alone decides the rate and the start
    keys = [(number % len(clips), seed + number) for number in range(passes * len(clips))]
    right = torch.zeros(3)
    for start in range(0, len(keys), batch_size):
        pixels, *targets = batch_of(clips, keys[start : start + batch_size], generator)
        features = network(pixels)
        heads = (network.concept, network.skip, network.direction)
        found = [head(features).argmax(1) for head in heads]
        right += torch.tensor([float((a == b).sum()) for a, b in zip(found, targets, strict=True)])
    names = ("concept", "rate", "direction")
    shares = dict(zip(names, (right / len(keys)).tolist(), strict=True))
    if not known:
        del shares["concept"]
    return {name: round(share, 4) for name, share in shares.items()}


def train_features(recipe: FeatureRecipe, tell=print) -> dict[str, Any]:
    """Train the feature network and save it with what was measured (training.json), which is returned too.

    Concepts are those of the video stages: neither held out from all stages nor from the video stages. The accuracy on
    held-in clips is on starts, rates and directions drawn anew; that on held-out clips, of which only the rate and the
    direction can be asked, is on concepts that the network has never seen.
    """
    from ..data.clips import UnlabelledClips
    from ..data.split import load_split

    torch.set_num_threads(recipe.threads)
    held_out = load_split(recipe.split).no_motion
    settings: dict[str, Any] = {
        "size": recipe.size,
        "num_frames": recipe.num_frames,
        "fps": recipe.fps,
        "frame_skip": (1, recipe.skips),
        "cache_bytes": int(recipe.cache_gb * 2**30),
    }
    clips = UnlabelledClips(recipe.clips, include=lambda key: key not in held_out, **settings)
    started = time.monotonic()
    torch.manual_seed(recipe.seed)
    network = EmojiFeatures(recipe.width, list(clips.keys), recipe.skips)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learn(network, clips, recipe, tell)
    seconds = time.monotonic() - started
    network.save(recipe.output)
    network = EmojiFeatures.load(recipe.output)  # what is measured is what was saved, in half precision
    other = UnlabelledClips(recipe.clips, include=lambda key: key in held_out, **settings)
    rest = (recipe.test_passes, 2**31 + recipe.seed, recipe.batch_size)
    result = {
        "recipe": recipe.model_dump(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "concepts": len(clips),
        "seconds": round(seconds),
        "held-in clips": accuracy(network, clips, *rest, known=True),
        "held-out clips": {"concepts": len(other), **accuracy(network, other, *rest, known=False)},
    }
    (Path(recipe.output) / "training.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def learn(network: EmojiFeatures, clips, recipe: FeatureRecipe, tell) -> None:
    """All steps of a recipe on the weights of a network, in place. `tell` is called with a line now and then."""
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps, pct_start=0.15)
    generator = torch.Generator().manual_seed(recipe.seed)
    order: list[int] = []
    running, started = None, time.monotonic()
    for step in range(recipe.steps):
        while len(order) < recipe.batch_size:
            order += torch.randperm(len(clips), generator=generator).tolist()
        keys = [(order.pop(0), recipe.seed + step * recipe.batch_size + row) for row in range(recipe.batch_size)]
        pixels, concept, skip, direction = batch_of(clips, keys, generator)
        network.train()
        features = network(shifted(pixels, recipe.shift, generator))
        loss = F.cross_entropy(network.concept(features), concept, label_smoothing=recipe.label_smoothing)
        motion = F.cross_entropy(network.skip(features), skip) + F.cross_entropy(network.direction(features), direction)
        optimizer.zero_grad()
        (loss + recipe.motion_weight * motion).backward()
        optimizer.step()
        schedule.step()
        now = torch.stack([loss.detach(), motion.detach()])
        running = now if running is None else running.lerp(now, 0.05)
        if (step + 1) % 20 == 0:
            concept_loss, motion_loss = running.tolist()
            seconds = time.monotonic() - started
            tell(f"step {step + 1}: concept {concept_loss:.3f}, motion {motion_loss:.3f}, {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the emoji feature network.")
    parser.add_argument("recipe", type=Path)
    try:
        print(json.dumps(train_features(load_feature_recipe(parser.parse_args().recipe)), indent=1))
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
