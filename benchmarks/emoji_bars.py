"""How good the emoji cascade is: is it the right thing, does it move, does its background stand still?

    python benchmarks/emoji_bars.py DATA [--prompts 64] [--size 256] [--embedding own] [--sheet docs/contact-sheet.png]
        [--json FILE]

DATA is the folder that `make-a-video data emoji` built. Prompts are labels of training concepts, drawn by seed. The
judge of likeness has learnt nothing, so it cannot share a fault with the networks: histograms of oriented gradients and
a colour thumbnail of the middle frame, compared with the stills of all concepts by cosine. It and motion see the frames
at the smallest size, background is measured at that of the videos. With --embedding own the decoder is given the very
still's image embedding in place of P's of its label: what is then wrong is its own fault.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.feature import hog

from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from makeavideo.emoji.concepts import split
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.included import default_model
from makeavideo.loading import weights_hash
from makeavideo.media.contact_sheet import contact_sheet
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import to_uint8

STILL = 8
"""A pixel is background where every frame is within this many of 255 levels of white."""


def shape_of(picture: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients of a (64, 64, 3) uint8 picture."""
    return hog(picture, orientations=8, pixels_per_cell=(8, 8), cells_per_block=(2, 2), channel_axis=-1)


def describe(picture: np.ndarray) -> np.ndarray:
    """Unit vector of a (64, 64, 3) uint8 picture: shape and colour, equally weighted."""
    shape = shape_of(picture)
    colour = np.asarray(Image.fromarray(picture).resize((12, 12), Image.Resampling.BOX), np.float32).ravel() / 255 - 1
    parts = [part / (np.linalg.norm(part) + 1e-6) for part in (shape, colour)]
    return np.concatenate(parts) / np.sqrt(2)


def motion(frames: np.ndarray) -> float:
    """Mean absolute difference of consecutive frames (frames, h, w, 3), in levels of 255."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def background(frames: np.ndarray) -> tuple[float, float] | None:
    """(mean, 99th percentile) of the change of background pixels from frame to frame, in levels of 255; None if there
    are none."""
    white = (frames >= 255 - STILL).all(axis=(0, 3))
    if not white.any():
        return None
    change = np.abs(np.diff(frames.astype(np.float32), axis=0))[:, white]
    return float(change.mean()), float(np.percentile(change, 99))


def make_videos(
    pipe: MakeAVideoPipeline,
    prompts: list[str] | torch.Tensor,
    num_frames: int,
    fps: float,
    steps: int,
    guidance: float,
    seed: int,
    motion: float | None = None,
    size: int | None = None,
) -> Iterator[np.ndarray]:
    """uint8 (frames, h, w, 3) for each prompt, or each image embedding of (videos, dim); at the smallest size if none
    is named."""
    for start in range(0, len(prompts), 8):
        part = prompts[start : start + 8]
        videos = pipe(
            **({"image_embeds": part} if torch.is_tensor(part) else {"prompt": part}),
            num_frames=num_frames,
            size=size or pipe.sizes[0],
            fps=fps,
            motion=motion,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed + start),
            output_type="pt",
        ).frames
        yield from to_uint8(videos * 2 - 1)


def drawn_stills(stills: CaptionedImages, count: int, seed: int) -> np.ndarray:
    """Indices of stills of training concepts, drawn by seed; of fewer all."""
    trained = [i for i, key in enumerate(stills.keys) if key not in split().held_out_all]
    return np.random.default_rng(seed).choice(trained, min(count, len(trained)), replace=False)


def drawn_clips(clips: UnlabelledClips, count: int, seed: int) -> list[np.ndarray]:
    """Clips of the data, drawn by seed, uint8 (frames, h, w, 3); of fewer all."""
    drawn = np.random.default_rng(seed).choice(len(clips), min(count, len(clips)), replace=False)
    return [to_uint8(clips[(int(i), 0)]["pixels"][None])[0] for i in drawn]


def shrink(frames: np.ndarray, side: int) -> np.ndarray:
    """uint8 (frames, h, w, 3) -> (frames, side, side, 3): each pixel the mean of those that it stands for."""
    return np.stack([np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BOX)) for frame in frames])


def fold(sheet: Image.Image, columns: int) -> Image.Image:
    """A long sheet as several columns side by side."""
    height = -(-sheet.height // columns)
    page = Image.new("RGB", (sheet.width * columns, height), "white")
    for column in range(columns):
        page.paste(sheet.crop((0, column * height, sheet.width, (column + 1) * height)), (column * sheet.width, 0))
    return page


def measured(
    stills: CaptionedImages, clips: UnlabelledClips, chosen: np.ndarray, videos: Iterable[np.ndarray], seed: int
) -> tuple[dict[str, float | None], list[np.ndarray]]:
    """The figures of videos of the chosen stills' concepts, which have the clips' size; and the videos, small."""
    side = stills.size[0]
    known = np.stack([describe(to_uint8(stills[(i, 0)]["pixels"][None])[0, 0]) for i in range(len(stills))])
    moving = {key: i for i, key in enumerate(clips.keys)}
    ranks, made_motion, real_motion, flicker, rows = [], [], [], [], []
    for index, large in zip(chosen, videos, strict=True):
        flicker += filter(None, [background(large)])
        rows.append(frames := shrink(large, side))
        likeness = known @ describe(frames[8])
        ranks.append(int((likeness > likeness[index]).sum()))
        made_motion.append(motion(frames))
        if stills.keys[index] in moving:
            real = to_uint8(clips[(moving[stills.keys[index]], 0)]["pixels"][None])[0]
            real_motion.append((motion(shrink(real, side)), made_motion[-1]))
    ranks = np.array(ranks)
    real_clips = drawn_clips(clips, 100, seed)
    real_all = np.mean([motion(shrink(frames, side)) for frames in real_clips])
    real_flicker = list(filter(None, map(background, real_clips)))
    animated = np.sum([m for _, m in real_motion]) / np.sum([r for r, _ in real_motion])
    return {
        "prompts": len(ranks),
        "concepts": len(stills),
        "right concept first": float((ranks == 0).mean()),
        "right concept in first five": float((ranks < 5).mean()),
        "motion": float(np.mean(made_motion)),
        "motion of real clips": float(real_all),
        "motion ratio": float(np.mean(made_motion) / real_all),
        "motion ratio, animated concepts": float(animated),
        "background change, mean": float(np.mean([m for m, _ in flicker])) if flicker else None,
        "background change, 99th percentile": float(np.mean([p for _, p in flicker])) if flicker else None,
        "background change of real clips": float(np.mean([p for _, p in real_flicker])) if real_flicker else None,
    }, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--size", type=int, help="of the videos; without it the second of the cascade's")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--fps", type=float, default=8.0)
    parser.add_argument("--embedding", choices=["prior", "own"], default="prior", help="whose y_e the decoder gets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet, a row a prompt")
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()

    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    size = arguments.size = arguments.size or pipe.sizes[:2][-1]
    stills = CaptionedImages(arguments.data / "images", pipe.sizes[0])
    chosen = drawn_stills(stills, arguments.prompts, arguments.seed)
    clips = UnlabelledClips(arguments.data / "clips", size, 16, fps=arguments.fps, cache_bytes=0)
    prompts = [stills.captions(int(i))[0] for i in chosen]
    asked: list[str] | torch.Tensor = prompts
    if arguments.embedding == "own":
        with torch.no_grad():
            asked = pipe.embed_pictures(torch.cat([stills[(int(i), 0)]["pixels"] for i in chosen]))
    told = (arguments.fps, arguments.steps, arguments.guidance, arguments.seed)
    videos = make_videos(pipe, asked, 16, *told, size=size)
    figures, rows = measured(stills, clips, chosen, videos, arguments.seed)
    for name, value in figures.items():
        print(f"{name:38}{value:.3f}" if isinstance(value, float) else f"{name:38}{value}")
    if arguments.json:
        save_benchmark(arguments.json, "emoji_bars", arguments, figures, weights_hash(arguments.model))
    if arguments.sheet:
        fold(contact_sheet(rows, columns=4, labels=prompts), 4).save(arguments.sheet, optimize=True)


if __name__ == "__main__":
    one_sentence(main)
