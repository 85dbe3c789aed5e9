"""Is F-up more than a cross-fade? Every fifth frame of held-out clips is given; the others are made and compared.

    python benchmarks/interpolation.py DATA [--clips 64] [--masked FOLDER] [--json FILE] [--sheet FILE]

DATA is the folder that `make-a-video data emoji` built. The clips are those whose motion no network has seen. Four
ways to fill the gaps: the nearest given frame, a linear cross-fade, warping along OpenCV's DIS optical flow (both ways,
as in Super SloMo, section 3.2 there), and F-up, which starts from that flow; with --masked the paper's F-up, which
diffuses the frames from the masked ones, is a fifth. PSNR in dB, higher is better; 1 - SSIM and
the distance of histograms of oriented gradients, lower is better. The clips in three parts, by how much they move, show
where each way fails.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity

from emoji_bars import fold, motion, shape_of
from makeavideo.data.clips import UnlabelledClips
from makeavideo.decoding import Decoding
from makeavideo.emoji.concepts import split
from makeavideo.encoders import embed_images
from makeavideo.evaluation.results import one_sentence, save_benchmark
from makeavideo.figures import FRAME_SKIP, KEY_FRAMES
from makeavideo.flow import Flow
from makeavideo.included import default_model
from makeavideo.inflation import VideoUNet
from makeavideo.loading import weights_hash
from makeavideo.media.contact_sheet import contact_sheet
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.sampling import to_uint8
from makeavideo.training.networks import load_folder

STEPS = 16
"""Of the paper's F-up."""


def nearest(a: np.ndarray, b: np.ndarray, s: float) -> np.ndarray:
    return a if s < 0.5 else b


def cross_fade(a: np.ndarray, b: np.ndarray, s: float) -> np.ndarray:
    return (1 - s) * a + s * b


def flow_warp(a: np.ndarray, b: np.ndarray, s: float) -> np.ndarray:
    first, second = Flow(*(np.ascontiguousarray(x / 127.5 - 1) for x in (a, b))).warped(s)
    return 127.5 * ((1 - s) * first + s * second + 1)


def fill(frames: np.ndarray, between) -> np.ndarray:
    """The clip (frames, h, w, 3) with all but every FRAME_SKIP-th frame made by `between(a, b, s)`."""
    made = frames.astype(np.float32)
    for first in range(0, len(frames) - FRAME_SKIP, FRAME_SKIP):
        a, b = made[first], made[first + FRAME_SKIP]
        for step in range(1, FRAME_SKIP):
            made[first + step] = between(a, b, step / FRAME_SKIP)
    return made.round().clip(0, 255).astype(np.uint8)


def distances(real: np.ndarray, made: np.ndarray) -> tuple[float, float, float]:
    """(PSNR, 1 - SSIM, HOG distance) of two pictures (h, w, 3); a perfect one counts as 60 dB."""
    error = np.square(real.astype(np.float32) - made).mean()
    psnr = 10 * np.log10(255**2 / max(error, 255**2 / 1e6))
    ssim = structural_similarity(real, made, channel_axis=-1)
    shapes = [shape_of(x) for x in (real, made)]
    return psnr, 1 - ssim, float(np.linalg.norm(shapes[0] - shapes[1]) / np.sqrt(len(shapes[0])))


def by_networks(
    pipe: MakeAVideoPipeline, networks: dict[str, VideoUNet], pixels: torch.Tensor, fps: float, seed: int
) -> dict[str, np.ndarray]:
    """What each F-up makes of every FRAME_SKIP-th frame of clips (b, f, 3, h, w): uint8 (b, f, h, w, 3)."""
    mask = torch.zeros(len(pixels), KEY_FRAMES)
    mask[:, ::FRAME_SKIP] = 1
    given = pixels * mask[:, :, None, None, None]
    y_e = embed_images(pipe.image_encoder, pixels[:, ::FRAME_SKIP].flatten(0, 1))
    y_e = y_e.unflatten(0, (len(pixels), -1)).mean(1, keepdim=True).expand(-1, KEY_FRAMES, -1)
    made = {}
    for name, network in networks.items():
        pipe.interpolator = network
        how = Decoding(fps, STEPS, 1.0, generator=torch.Generator().manual_seed(seed))
        made[name] = to_uint8(pipe.fill(given, mask, y_e, how))
    return made


def compared(scores: dict[str, list[np.ndarray]]) -> dict[str, dict]:
    """Each way's mean figures, and how often F-up has the better one; printed as a table."""
    print(f"{'':20}{'PSNR':>8}{'1 - SSIM':>10}{'HOG':>8}   clips where F-up has the better PSNR, 1 - SSIM, HOG")
    ours = np.array(scores["F-up"])
    table = {}
    for name, found in scores.items():
        values = np.array(found)
        better = np.stack([ours[:, 0] > values[:, 0], ours[:, 1] < values[:, 1], ours[:, 2] < values[:, 2]], 1).mean(0)
        psnr, ssim, shape = values.mean(0)
        table[name] = {"psnr": psnr, "1 - ssim": ssim, "hog": shape, "F-up better": better.tolist()}
        shares = "" if name == "F-up" else "  ".join(f"{share:4.0%}" for share in better)
        print(f"{name:20}{psnr:8.2f}{ssim:10.4f}{shape:8.4f}   {shares}")
    return table


def thirds(scores: dict[str, list[np.ndarray]], moved: list[float]) -> list[dict]:
    """PSNR of each way in three parts of the clips, by how much they move."""
    found = []
    for part in np.array_split(np.argsort(moved), 3):
        psnr = {name: np.array(values)[part, 0].mean() for name, values in scores.items()}
        found.append({"clips": len(part), "motion": np.array(moved)[part].mean(), "psnr": psnr})
    return found


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--fps", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--sheet", type=Path, help="write a contact sheet: real, cross-fade, flow and F-up of some clips"
    )
    parser.add_argument("--masked", type=Path, help="folder of the paper's F-up (guess: none), to measure beside ours")
    parser.add_argument("--json", type=Path, help="write the figures")
    arguments = parser.parse_args()

    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    networks = {"F-up": pipe.interpolator}
    if arguments.masked:
        other = load_folder(VideoUNet, arguments.masked, "interpolator").to(pipe.device, pipe.interpolator.dtype)
        networks["F-up of the paper"] = other.to(memory_format=torch.channels_last).eval()
    held_out = split().held_out_all | split().held_out_motion
    clips = UnlabelledClips(
        arguments.data / "clips", pipe.sizes[0], KEY_FRAMES, fps=arguments.fps, include=held_out, cache_bytes=0
    )
    count = min(arguments.clips, len(clips))
    scores: dict[str, list[np.ndarray]] = {}
    moved, rows = [], []
    for start in range(0, count, 8):
        pixels = torch.stack([clips[(i, arguments.seed)]["pixels"] for i in range(start, min(start + 8, count))])
        made = by_networks(pipe, networks, pixels, arguments.fps, arguments.seed + start)
        for place, real in enumerate(to_uint8(pixels)):
            ways = {
                "nearest frame": fill(real, nearest),
                "cross-fade": fill(real, cross_fade),
                "optical flow (DIS)": fill(real, flow_warp),
                **{name: videos[place] for name, videos in made.items()},
            }
            for name, video in ways.items():
                gaps = [distances(real[i], video[i]) for i in range(len(real)) if i % FRAME_SKIP]
                scores.setdefault(name, []).append(np.mean(gaps, axis=0))
            moved.append(motion(real))
            rows += [real, ways["cross-fade"], ways["optical flow (DIS)"], ways["F-up"]]
    print(f"{count} held-out clips at {arguments.fps:g} frames a second")
    table = compared(scores)
    if arguments.json:
        figures = {"clips": count, "ways": table, "by motion": thirds(scores, moved) if count >= 3 else []}
        save_benchmark(arguments.json, "interpolation", arguments, figures, weights_hash(arguments.model))
    if arguments.sheet:
        fold(contact_sheet(rows[: 4 * 16], columns=8), 2).save(arguments.sheet, optimize=True)


if __name__ == "__main__":
    one_sentence(main)
