"""How sharp super-resolution is, where it has to be, and how quiet elsewhere.

    python benchmarks/sharpness.py DATA [--prompts 24] [--before MODEL] [--sheet FILE] [--json FILE]

DATA is the folder that `make-a-video data emoji` built. Labels of training concepts are drawn by seed, videos made from
them, and the middle frames compared with the real pictures of the same labels at 256 and at 768 pixels (there: the
vectors, of the concepts that have one):

    edges      99th percentile of the gradient's magnitude at 256 pixels, 99.67th at 768 (edges are lines: three times
               the size, a third of the pixels), as a part of the real picture's: median over the labels
    flat       mean gradient over the flattest half of the pixels, less the real picture's, in levels of 255
    halo       99th percentile of what super-resolution changes where the small frame is flat, in levels
    flicker    mean change from frame to frame where the small frames stand still, as a part of theirs

Then PSNR and SSIM on real small frames of concepts that no network has seen, beside bicubic up-sampling and, with
--before, the super-resolution of another model.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from emoji_bars import drawn_stills
from makeavideo.data.images import CaptionedImages
from makeavideo.emoji.concepts import split
from makeavideo.errors import UserError
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.media.contact_sheet import contact_sheet
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import from_uint8, to_uint8

FLAT = 2
"""A small pixel is flat where it and its neighbours differ by at most this many levels."""
STILL = 8
"""A small pixel stands still if it stays within so many levels through the whole video."""


def gradient(picture: np.ndarray) -> np.ndarray:
    """Magnitude of the gradient of a uint8 (h, w, 3) picture, in levels a pixel: (h - 1, w - 1)."""
    grey = picture.astype(np.float32).mean(-1)
    return np.hypot(np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1])


def edges(picture: np.ndarray) -> float:
    """The gradient's magnitude that one pixel in a hundred of 256 x 256 passes, in levels; in larger pictures fewer do,
    as edges are lines: their share of the pixels falls as the picture grows."""
    return float(np.percentile(gradient(picture), 100 - 256 / len(picture)))


def roughness(picture: np.ndarray) -> float:
    """Mean gradient over the flattest half of the pixels, in levels."""
    steps = np.sort(gradient(picture), axis=None)
    return float(steps[: len(steps) // 2].mean())


def halo(small: np.ndarray, large: np.ndarray) -> float:
    """99th percentile of |large - small| where the small frame is flat, in levels; both uint8 (h, w, 3)."""
    span = maximum_filter(small, (3, 3, 1)).astype(int) - minimum_filter(small, (3, 3, 1))
    flat = widen(span.max(-1) <= FLAT, large)
    change = np.abs(large.astype(np.float32) - widen(small, large)).max(-1)[flat]
    return float(np.percentile(change, 99)) if len(change) else 0.0


def flicker(small: np.ndarray, large: np.ndarray) -> tuple[float, float]:
    """Mean change from frame to frame of small and of large frames (frames, h, w, 3), where the small ones stand still
    and their neighbours too; in levels, (0, 0) where nothing stands still."""
    span = np.ptp(small, axis=0).max(-1)
    still = maximum_filter(span, 5) <= STILL
    if not still.any():
        return 0.0, 0.0
    changes = [np.abs(np.diff(frames.astype(np.float32), axis=0)) for frames in (small, large)]
    return float(changes[0][:, still].mean()), float(changes[1][:, widen(still, large[0])].mean())


def widen(small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Every pixel of the small picture, or mask, as the square of large pixels that it stands for."""
    factor = large.shape[0] // small.shape[0]
    return small.repeat(factor, 0).repeat(factor, 1)


def enlarge(pipe: MakeAVideoPipeline, small: Tensor, steps: int, seed: int) -> Tensor:
    """SR_l_t as the pipeline runs it: (1, frames, 3, h, w) -> (1, frames, 3, 4 h, 4 w)."""
    chunks = pipe.upscale_low(iter([small]), 8.0, max(1, steps // 4), torch.Generator().manual_seed(seed))
    return torch.cat([large for _, large in chunks], 1)


def enlarge_again(pipe: MakeAVideoPipeline, frames: Tensor, steps: int, seed: int) -> Tensor:
    """SR_h as the pipeline runs it: (1, frames, 3, h, w) -> (1, frames, 3, 3 h, 3 w)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([y for _, y in pipe.upscale_high([(frames, frames)], max(1, steps // 8), generator)], 1)


def bicubic(factor: int) -> Callable[[Tensor], Tensor]:
    return lambda x: F.interpolate(x[0], scale_factor=factor, mode="bicubic", align_corners=False)[None]


def read(folder: Path, size: int, include=None) -> CaptionedImages | None:
    """The pictures of a folder, None where it has not been built."""
    if not folder.is_dir():
        return None
    return CaptionedImages(folder, size, include=include, need_captions=False)


def picture(images: CaptionedImages, index: int) -> np.ndarray:
    return to_uint8(images[(int(index), 0)]["pixels"][None])[0, 0]


def generated(pipe, stills: CaptionedImages, vectors: CaptionedImages | None, arguments) -> tuple[dict, list]:
    """The measures on videos of drawn labels, and a row for each: small frame, large frame, real, largest, real."""
    chosen = drawn_stills(stills, arguments.prompts, arguments.seed)
    largest = {} if vectors is None else {key: i for i, key in enumerate(vectors.keys)}
    found: dict[str, list] = {}
    rows = []
    for number, index in enumerate(chosen):
        video = pipe(
            stills.captions(int(index))[0],
            num_frames=arguments.num_frames,
            size=pipe.sizes[0],
            num_inference_steps=arguments.steps,
            generator=torch.Generator().manual_seed(arguments.seed + number),
            output_type="pt",
        ).frames
        small = video.float().cpu() * 2 - 1
        large = enlarge(pipe, small, arguments.steps, arguments.seed)
        middle = small.shape[1] // 2
        huge = enlarge_again(pipe, large[:, middle : middle + 1], arguments.steps, arguments.seed)
        frames = [to_uint8(x)[0] for x in (small, large, huge)]
        views = [frames[0][middle], frames[1][middle], frames[2][0]]
        note(found, "256", views[1], picture(stills, index), halo(views[0], views[1]))
        found.setdefault("flicker", []).append(flicker(frames[0], frames[1]))
        row = [*views[:2], picture(stills, index), views[2]]
        if stills.keys[index] in largest:
            real = picture(vectors, largest[stills.keys[index]])
            note(found, "768", views[2], real, halo(views[1], views[2]))
            row.append(real)
        rows.append(row)
    table = {"labels": len(chosen)}
    for size in ("256", "768"):
        if size in found:
            ratio, rough, ring = np.array(found[size]).T
            table[size] = {
                "labels": len(ratio),
                "edges": float(np.median(ratio)),
                "flat": float(rough.mean()),
                "halo": float(np.median(ring)),
            }
    before, after = np.array(found["flicker"]).mean(0)
    table["flicker"] = {"small": float(before), "large": float(after)}
    return table, rows


def note(found: dict, size: str, made: np.ndarray, real: np.ndarray, ring: float) -> None:
    found.setdefault(size, []).append((edges(made) / max(edges(real), 1e-6), roughness(made) - roughness(real), ring))


def likeness(ways: dict[str, Callable[[Tensor], Tensor]], small, large, count: int) -> dict:
    """PSNR, SSIM and edges of each way to enlarge the real small pictures; the same items in both sizes."""
    scores: dict[str, list] = {name: [] for name in ways}
    for index in range(min(count, len(large))):
        real = picture(large, index)
        given = from_uint8(picture(small, index)[None, None])
        for name, way in ways.items():
            made = to_uint8(way(given))[0, 0]
            scores[name].append(
                (
                    peak_signal_noise_ratio(real, made),
                    structural_similarity(real, made, channel_axis=-1),
                    edges(made) / max(edges(real), 1e-6),
                    halo(picture(small, index), made),
                )
            )
    columns = ("psnr", "ssim", "edges", "halo")
    return {name: dict(zip(columns, np.median(values, 0).tolist(), strict=True)) for name, values in scores.items()}


def likenesses(pipe, before, stills: Path, vectors: Path, arguments) -> dict:
    """`likeness` at both stages, on held-out concepts; a stage without pictures is left out."""
    tables = {}
    held_out = split().held_out_all
    stages = (("256", stills, enlarge, 0), ("768", vectors, enlarge_again, 1))
    for name, folder, way, stage in stages:
        large = read(folder, pipe.sizes[stage + 1], held_out) if folder.is_dir() else None
        if large is None:
            continue
        ways = {"bicubic": bicubic(pipe.sizes[stage + 1] // pipe.sizes[stage])}
        models = {"this model": pipe} | ({"before": before} if before else {})
        for title, model in models.items():
            ways[title] = lambda x, model=model, way=way: way(model, x, arguments.steps, arguments.seed)
        small = read(folder, pipe.sizes[stage], held_out)
        tables[name] = likeness(ways, small, large, arguments.held_out)
    return tables


def tell(figures: dict) -> None:
    print(f"{'generated':12}{'labels':>8}{'edges':>8}{'flat':>8}{'halo':>8}")
    for size in ("256", "768"):
        if size in figures["generated"]:
            row = figures["generated"][size]
            print(f"{size:12}{row['labels']:8}{row['edges']:8.2f}{row['flat']:8.2f}{row['halo']:8.1f}")
    flickers = figures["generated"]["flicker"]
    print(f"flicker, levels: small frames {flickers['small']:.2f}, large frames {flickers['large']:.2f}")
    for size, table in figures["held out"].items():
        print(f"\n{'to ' + size:12}{'PSNR':>8}{'SSIM':>8}{'edges':>8}{'halo':>8}")
        for name, row in table.items():
            print(f"{name:12}{row['psnr']:8.2f}{row['ssim']:8.4f}{row['edges']:8.2f}{row['halo']:8.1f}")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--before", type=Path, help="folder of another model, whose super-resolution is compared")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--held-out", type=int, default=48, help="real pictures of held-out concepts at each size")
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet: small, large, real, largest, real")
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()

    pipe = MakeAVideoPipeline.load(arguments.model)
    before = MakeAVideoPipeline.load(arguments.before) if arguments.before else None
    for model in filter(None, (pipe, before)):
        model.set_progress_bar_config(disable=True)
    if before is not None and before.sizes != pipe.sizes:
        raise UserError(f"{arguments.before} makes frames of other sizes than {arguments.model}: they do not compare.")
    stills = CaptionedImages(arguments.data / "images", pipe.sizes[1])
    vectors = read(arguments.data / "vectors", pipe.sizes[2])
    table, rows = generated(pipe, stills, vectors, arguments)
    folders = arguments.data / "images", arguments.data / "vectors"
    figures = {"generated": table, "held out": likenesses(pipe, before, *folders, arguments)}
    tell(figures)
    if arguments.json:
        save_benchmark(arguments.json, "sharpness", arguments, figures, weights_hash(arguments.model))
    if arguments.sheet:
        side = pipe.sizes[1]
        cells = [[np.asarray(Image.fromarray(cell).resize((side, side))) for cell in row[:3]] for row in rows]
        contact_sheet([np.stack(row) for row in cells], columns=3).save(arguments.sheet, optimize=True)


if __name__ == "__main__":
    one_sentence(main)
