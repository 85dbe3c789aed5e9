"""What a `SuperResolver` learns from: crops of large frames, and small frames of the kinds that it will meet.

The crops are cut once, into one array on disk, so that a step of the training decodes nothing. With each lie the small
frames that the readers' Lanczos makes of it and, if D is named, some that D cleaned of noise in one step: they have D's
faults, and still show what the crop shows.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.reader import ItemReader
from ..errors import UserError
from .networks import why
from .preparing import prepared

Clean = Callable[[np.ndarray, int], list[np.ndarray]]
"""(small frames (frames, h, w, 3), seed) -> the same frames as D cleans them, several times."""


def shrink(frames: np.ndarray, factor: int) -> np.ndarray:
    """uint8 (frames, h, w, 3) -> (frames, h / factor, w / factor, 3), by Lanczos as the readers of pictures do."""
    size = (frames.shape[2] // factor, frames.shape[1] // factor)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames])


def pack(reader: ItemReader, folder: Path, factor: int, crop: int, crops: int, clean: Clean | None, note: dict) -> None:
    """Cut `crops` crops from every item of a reader, each at the one of three places that has most in it.

    Writes large.npy (n, frames, crop, crop, 3) and small.npy (n, kinds, frames, crop / factor, crop / factor, 3),
    uint8; small[:, 0] is made by Lanczos, the other kinds by `clean`. The folder is written under a temporary name and
    renamed when whole; one that is there already with the same `note` stays.

    Raises:
        UserError: it cannot be written.
    """
    with suppress(OSError, ValueError, RecursionError):
        if json.loads((folder / "note.json").read_text()) == note:
            return
    partial = folder.with_name(folder.name + ".partial")
    try:
        cut_all(reader, partial, factor, crop, crops, clean)
        (partial / "note.json").write_text(json.dumps(note))
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{folder} cannot be written ({why(error)}): free some space or change output.") from None
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def cut_all(reader: ItemReader, partial: Path, factor: int, crop: int, crops: int, clean: Clean | None) -> None:
    """As `pack`, but for the folder's name and its note."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    side = crop // factor
    large: Any = None
    small: Any = None
    skipped: dict[str, str] = dict(reader.passed_by)
    cuts = prepared(views(reader, factor, crops, clean, skipped), "cutting crops", len(reader) * crops)
    for row, (frames, kinds, rng) in enumerate(cuts):
        if large is None:
            count = len(reader) * crops
            large = new_array(partial / "large.npy", (count, len(frames), crop, crop, 3))
            small = new_array(partial / "small.npy", (count, len(kinds), len(frames), side, side, 3))
        places = rng.integers(0, frames.shape[1] // factor - side + 1, (3, 2))
        top, left = max(places, key=lambda at: cut(kinds[0], at[0], at[1], side).std())
        large[row] = cut(frames, top * factor, left * factor, crop)
        small[row] = [cut(pictures, top, left, side) for pictures in kinds]
    large.flush()
    small.flush()
    (partial / "skipped.json").write_text(json.dumps(list(skipped.items())))


def new_array(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """An uint8 array on disk; OSError if there is no space for it."""
    array = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):  # else a full disk ends the process when a page of the map is written (SIGBUS)
        with file.open("rb+") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return array


def views(reader: ItemReader, factor: int, crops: int, clean: Clean | None, skipped: dict) -> Iterator[tuple]:
    """For each crop to be cut: the frames it is cut from, their small frames of each kind, and its random numbers."""
    for index in range(len(reader)):
        for number in range(crops):
            rng = np.random.default_rng([index, number])
            if number == 0 or getattr(reader, "num_frames", 1) > 1:  # of a clip another start, another frame rate
                sample = reader.sample((index, int(rng.integers(2**31)), number / crops))
                skipped.update(sample["skipped"])
                frames = np.asarray(sample["pixels"])
                kinds = [shrink(frames, factor)]
                if clean is not None:
                    kinds += clean(kinds[0], int(rng.integers(2**31)))
            yield frames, kinds, rng


def cut(frames: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    return frames[:, top : top + side, left : left + side]


class PackedCrops(torch.utils.data.Dataset):
    """What `pack` wrote. A sample is asked for with (index, seed, progress) and depends on nothing else:
    {"pixels": uint8 (frames, crop, crop, 3), "small": uint8 (frames, crop / factor, crop / factor, 3), "cleaned": 1.0
    where D made the small frames, "index", "skipped": []}; mirrored and turned at random.

    cleaned: share of the samples whose small frames are D's, where there are any.
    files: those that the crops were cut from. passed_by: (path, reason) of all that was skipped while cutting.
    """

    def __init__(self, folder: Path, cleaned: float, files: list[str]):
        self.folder, self.cleaned, self.files = folder, cleaned, files
        try:
            self.large = np.load(folder / "large.npy", mmap_mode="r")
            self.small = np.load(folder / "small.npy", mmap_mode="r")
            told = json.loads((folder / "skipped.json").read_text())
            self.passed_by = [(str(path), str(reason)) for path, reason in told]
            large, small = self.large.shape, self.small.shape
            if self.large.dtype != np.uint8 or self.small.dtype != np.uint8 or len(large) != 5 or len(small) != 6:
                raise ValueError
            if (large[0], large[1]) != (small[0], small[2]) or not small[1]:
                raise ValueError
        except (OSError, ValueError, TypeError, EOFError, AttributeError, RecursionError):  # an .npz has no shape
            raise UserError(f"{folder} is damaged: delete it, and the crops are cut anew.") from None

    def __reduce__(self):  # the data loader's processes open the arrays themselves
        return PackedCrops, (self.folder, self.cleaned, self.files)

    def __len__(self) -> int:
        return len(self.large)

    def __getitem__(self, key: tuple) -> dict:
        index, seed = int(key[0]), int(key[1])
        rng = np.random.default_rng(seed)
        kinds = self.small.shape[1]
        by_decoder = kinds > 1 and rng.random() < self.cleaned
        kind = int(rng.integers(1, kinds)) if by_decoder else 0
        flip, turn = rng.integers(2, size=2)
        views = []
        for frames in (self.large[index], self.small[index, kind]):
            frames = frames[:, :, ::-1] if flip else frames
            views.append(np.array(frames.transpose(0, 2, 1, 3) if turn else frames, order="C"))
        pixels, small = views
        return {"pixels": pixels, "small": small, "cleaned": float(by_decoder), "index": index, "skipped": []}


def degrade(pixels: Tensor, small: Tensor, cleaned: Tensor, blur: float, noise: float, generator) -> Tensor:
    """Small frames as people and other programs make them, from large frames and the readers' small ones.

    Half of those that D did not clean are made anew by another filter (bilinear, bicubic, area); half are blurred a
    little, half are noised a little.

    Args:
        pixels, small: (batch, frames, 3, ...) in [-1, 1].
        cleaned: (batch,), 1 where the small frames are D's: those stay as they are.
        blur: largest deviation, in small pixels; noise: highest level.
    """
    batch, side = len(small), small.shape[-1]
    device = generator.device
    which, blurred, noised, sigma, level = torch.rand(5, batch, generator=generator, device=device).to(small.device)
    other = int(torch.randint(3, (), generator=generator, device=device))
    again = (which < 0.5) & (cleaned < 0.5)
    if again.any():
        mode = ("bilinear", "bicubic", "area")[other]
        frames = pixels[again].flatten(0, 1)
        made = F.interpolate(frames, (side, side), mode=mode, antialias=mode != "area")
        made = made.unflatten(0, (-1, small.shape[1]))
        small = small.clone()
        small[again] = made.clamp(-1, 1)
    drawn = torch.randn(small.shape, generator=generator, device=device).to(small.device)
    sigma = torch.where((blurred < 0.5) & (cleaned < 0.5), sigma * blur, 0.0)
    small = blur_by(small, sigma)
    level = torch.where((noised < 0.5) & (cleaned < 0.5), level.square() * noise, 0.0)
    return small + level.view(-1, 1, 1, 1, 1) * drawn


def blur_by(frames: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur over 5 x 5 pixels, with a deviation (batch,) of its own for each clip; 0 leaves a clip as it is."""
    places = torch.arange(-2, 3, device=frames.device)
    taps = torch.exp(-places.square() / (2 * sigma.clamp(min=1e-3).square())[:, None])
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(frames.shape[1] * 3, 0)
    x = F.pad(frames.flatten(0, 1), (2, 2, 2, 2), mode="replicate").reshape(1, -1, *[n + 4 for n in frames.shape[3:]])
    x = F.conv2d(x, taps[:, None, :, None], groups=x.shape[1])
    x = F.conv2d(x, taps[:, None, None, :], groups=x.shape[1])
    return x.view_as(frames)


def sharpen(frames: Tensor, amount: float) -> Tensor:
    """Unsharp masking without a halo: every pixel stays within the range of its neighbours. (batch, frames, 3, h, w).

    As a target it makes up for what a loss of pixels takes from edges whose place the small frame does not tell.
    """
    x = frames.flatten(0, 1)
    edges = x - blur_by(frames, torch.ones(len(frames), device=x.device)).flatten(0, 1)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    low, high = -F.max_pool2d(-padded, 3, 1), F.max_pool2d(padded, 3, 1)
    return torch.minimum(torch.maximum(x + amount * edges, low), high).view_as(frames)
