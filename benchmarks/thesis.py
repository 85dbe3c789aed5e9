"""The paper's thesis, measured: what do pseudo-3-D layers, training all weights, and a text-to-image start bring?

    python benchmarks/thesis.py DATA [--seeds 3] [--json evaluation/thesis.json]

DATA is the folder that `make-a-video data emoji` built. Four decoders are trained on the same clips for the same steps
by recipes/thesis/decoder-video.yaml, and each makes videos of concepts that it saw move and of concepts that it never
saw move (their stills it may have seen), from the still's image embedding. One table compares them. What is finished is
kept in --runs: the same line goes on where it was stopped. docs/evaluation.md says what stands for what.
"""

import argparse
import json
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from emoji_bars import describe, motion
from makeavideo import UserError
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from makeavideo.decoding import Decoding
from makeavideo.emoji.concepts import split
from makeavideo.evaluation.features import hash_of, video_features
from makeavideo.evaluation.frechet import distance_of_features
from makeavideo.evaluation.results import command_line, machine, one_sentence, today
from makeavideo.included import default_model
from makeavideo.inflation import VideoUNet, is_temporal, public
from makeavideo.motion_module import load_motion_module
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.pseudo3d import PseudoConv3d
from makeavideo.sampling import to_uint8
from makeavideo.training.batches import Batches, on_device
from makeavideo.training.networks import load_folder, start_network
from makeavideo.training.recipe import Recipe, load_recipe
from makeavideo.training.stages import STAGES
from makeavideo.training.trainer import train

RECIPES = Path(__file__).parents[1] / "recipes" / "thesis"
VARIANTS = {
    "paper": ("pseudo-3-D, all weights (the paper)", ["temporal=pseudo3d", "train=all"]),
    "attention": ("attention only (as VDM)", ["temporal=attention", "train=all"]),
    "frozen": ("temporal weights only (as CogVideo)", ["temporal=pseudo3d", "train=temporal"]),
    # nothing is there that a lower rate would keep from being forgotten
    "random": ("no text-to-image start", ["temporal=pseudo3d", "init_from=null", "optim.pretrained_scale=1"]),
}
GROUPS = ("never seen moving", "seen")
BACKGROUND = 8
"""A pixel is background where every frame of the real clip is within this many of 255 levels of white."""
COLUMNS = {  # of the table: heading -> key of the figures
    "distance": "emoji-feature distance",
    "motion": "motion, never seen moving",
    "motion, seen": "motion, seen",
    "flicker": "flicker",
    "first / five, never": ("right concept first, never seen moving", "right concept in first five, never seen moving"),
    "first / five, seen": ("right concept first, seen", "right concept in first five, seen"),
}


def flat(video: VideoUNet) -> VideoUNet:
    """A 2-D network from D_t: of a clip of one frame a temporal convolution sees only its middle tap, which can be
    multiplied into the spatial one; temporal attention is left out."""
    network = VideoUNet(**{**public(video.config), "temporal": "none", "motion": None})
    network.load_state_dict({name: x for name, x in video.state_dict().items() if not is_temporal(name)})
    spatial = dict(network.named_modules())
    with torch.no_grad():
        for name, conv in video.named_modules():
            if isinstance(conv, PseudoConv3d):
                tap = conv.temporal.weight[:, :, 1, 0]
                spatial[name].weight.copy_(torch.einsum("oc,cikl->oikl", tap, conv.weight))
                spatial[name].bias.copy_(tap @ conv.bias + conv.temporal.bias)
    return network


def run(recipe: Recipe) -> Path:
    """The decoder that this recipe trains: now, from where it was stopped, or long since.

    Raises:
        UserError: its folder holds a run of another recipe.
    """
    output = Path(recipe.output)
    kept = output / "recipe.yaml"
    if kept.is_file() and load_recipe(kept) != recipe:
        raise UserError(f"{output} holds a run with other settings: remove it, or give another folder as --runs.")
    final = output / "final"
    if not final.is_dir():
        train(recipe, resume=True)
    decoder = final / "decoder"
    if not decoder.is_dir():  # of temporal weights only a motion module is kept
        network = start_network(recipe)
        load_motion_module(network, final / "motion_module.safetensors")
        network.half().save_pretrained(decoder)
    return decoder


def start_of(arguments: argparse.Namespace) -> Path:
    """The text-to-image network that three of the four start from: --start, or one made of the model's D_t."""
    if arguments.start:
        if load_folder(VideoUNet, arguments.start, "text-to-image network").config.temporal != "none":
            raise UserError(f"{arguments.start} has temporal layers: --start takes what decoder-image exported.")
        return arguments.start
    folder = arguments.runs / "flat"
    if not folder.is_dir():
        flat(load_folder(VideoUNet, arguments.model / "decoder", "decoder").float()).half().save_pretrained(folder)
    changes = [f"output={arguments.runs / 'decoder-image'}", f"init_from={folder}"]
    return run(load_recipe(RECIPES / "decoder-image.yaml", [*common(arguments, "images"), *changes]))


def common(arguments: argparse.Namespace, roots: str) -> list[str]:
    return [f"data.roots=[{arguments.data / roots}]", f"image_encoder={arguments.model / 'image_encoder'}"]


def recipes_of(arguments: argparse.Namespace, start: Path, seed: int) -> dict[str, Recipe]:
    """The four runs of one seed, by the variant's name."""
    network = load_recipe(RECIPES.parent / "emoji" / "decoder-image.yaml").network
    changes = [f"network={json.dumps(network)}"]
    changes += [f"data.stills=[{arguments.data / 'images'}]", f"init_from={start}", f"seed={seed}", *arguments.set]
    if arguments.steps:
        changes.append(f"steps={arguments.steps}")
    recipes = {
        name: load_recipe(
            RECIPES / "decoder-video.yaml",
            [*common(arguments, "clips"), *changes, *own, f"output={arguments.runs / f'{name}-{seed}'}"],
        )
        for name, (_, own) in VARIANTS.items()
    }
    # only the run from random weights builds its network: the others have it from init_from
    return {name: r.model_copy(update={"network": {}}) if r.init_from else r for name, r in recipes.items()}


def cost(recipes: dict[str, Recipe], repetitions: int) -> dict[str, dict[str, float]]:
    """Trained parameters, in millions, and seconds a step. Steps of all variants take turns, so that a busy machine
    slows all alike; on a processor it is processor time, which other work changes little. Medians."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    steps, found = {}, {}
    for name, recipe in recipes.items():
        torch.manual_seed(0)
        stage = STAGES[recipe.stage](recipe, device)
        stage.network.to(device).train()
        optimizer = torch.optim.AdamW(stage.parameter_groups(), fused=True)
        trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        keys = [(i % len(stage.dataset), i, 0.5) for i in range(recipe.batch_size)]
        batch = on_device(Batches(stage.dataset, [keys], stage.complete)[0], device)
        steps[name] = stage, optimizer, batch
        found[name] = {"trained parameters, millions": trained / 1e6}
    times: dict[str, list[float]] = {name: [] for name in recipes}
    for repetition in range(repetitions + 1):
        for name, (stage, optimizer, batch) in steps.items():
            begun = clock()
            stage.loss(stage.network, dict(batch), torch.Generator().manual_seed(repetition)).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repetition:  # the first one is to warm up
                times[name].append(clock() - begun)
    for name, seconds in times.items():
        found[name]["seconds a step"] = statistics.median(seconds)
    return found


class Judge:
    """The concepts that videos are made of, their real clips, and every measure but the cost.

    real: uint8 (concepts, frames, h, w, 3), the never-seen-moving ones first. y_e: (concepts, dim), of the stills.
    """

    def __init__(self, arguments: argparse.Namespace, pipe: MakeAVideoPipeline):
        self.pipe, self.arguments, size = pipe, arguments, pipe.sizes[0]
        stills = CaptionedImages(arguments.data / "images", size, need_captions=False)
        held_out = split().held_out_motion
        clips = UnlabelledClips(arguments.data / "clips", size, arguments.frames, fps=arguments.fps, cache_bytes=0)
        both = sorted(set(clips.keys) & set(stills.keys) - split().held_out_all)
        pools = [[key for key in both if (key in held_out) == never] for never in (True, False)]
        if min(map(len, pools)) < arguments.concepts:
            raise UserError(f"There are only {min(map(len, pools))} concepts in a group: set --concepts so.")
        rng = np.random.default_rng(0)  # the same concepts for every seed
        self.keys = [str(key) for pool in pools for key in sorted(rng.choice(pool, arguments.concepts, replace=False))]
        self.real, self.again = (self.clips(clips, seed) for seed in (0, 1))
        places = {key: i for i, key in enumerate(stills.keys)}
        self.places = np.array([places[key] for key in self.keys])
        pictures = [stills[(i, 0)]["pixels"] for i in range(len(stills))]
        self.known = np.stack([describe(to_uint8(picture[None])[0, 0]) for picture in pictures])
        with torch.no_grad():
            self.y_e = pipe.embed_pictures(torch.cat([pictures[i] for i in self.places]))
        self.features = video_features(arguments.features)
        self.real_features = self.features(self.real[: arguments.concepts])

    def clips(self, clips: UnlabelledClips, seed: int) -> np.ndarray:
        """One clip of each concept, from a start that the seed draws."""
        places = {key: i for i, key in enumerate(clips.keys)}
        return to_uint8(torch.stack([clips[(places[key], seed)]["pixels"] for key in self.keys]))

    def videos(self, decoder: Path, seed: int) -> np.ndarray:
        """What a decoder makes of all concepts, uint8 as `real`; kept beside the run."""
        a = self.arguments
        settings = json.dumps([self.keys, a.frames, a.fps, a.sampling_steps, a.guidance, seed])
        file = decoder.parents[1] / "made.npz"
        if file.is_file():
            kept = np.load(file)
            if str(kept["settings"]) == settings:
                return kept["videos"]
        network = load_folder(VideoUNet, decoder, "decoder").to(self.pipe.decoder.dtype)
        self.pipe.decoder = network.to(self.pipe.decoder.device, memory_format=torch.channels_last).eval()
        made = []
        with torch.no_grad():
            for start, y_e in enumerate(self.y_e.split(4)):
                generator = torch.Generator().manual_seed(1000 * seed + start)
                shape = (3, *self.real.shape[2:4])
                how = Decoding(a.fps, a.sampling_steps, a.guidance, generator=generator, frame_shape=shape)
                frames = self.pipe.decode(y_e, a.frames, how)
                made.append(to_uint8(frames))
        made = np.concatenate(made)
        partial = file.with_name("made.partial.npz")
        np.savez_compressed(partial, videos=made, settings=settings)
        partial.replace(file)
        return made

    def figures(self, videos: np.ndarray) -> dict[str, float]:
        """Every measure of one set of videos, by name."""
        count = self.arguments.concepts
        parts = dict(zip(GROUPS, (slice(0, count), slice(count, None)), strict=True))
        found = {"emoji-feature distance": distance_of_features(self.real_features, self.features(videos[:count]))}
        moved = [np.array([motion(clip) for clip in clips]) for clips in (videos, self.real)]
        still = (self.real >= 255 - BACKGROUND).all(axis=(1, 4))
        change = np.abs(np.diff(videos.astype(np.float32), axis=1)).mean(axis=(1, 4))
        found["flicker"] = float(np.mean([c[s].mean() for c, s in zip(change, still, strict=True) if s.any()]))
        likeness = np.stack([describe(clip[len(clip) // 2]) for clip in videos]) @ self.known.T
        ranks = (likeness > likeness[np.arange(len(videos)), self.places][:, None]).sum(1)
        for group, part in parts.items():
            found[f"motion, {group}"] = float(moved[0][part].mean() / moved[1][part].mean())
            found[f"right concept first, {group}"] = float((ranks[part] == 0).mean())
            found[f"right concept in first five, {group}"] = float((ranks[part] < 5).mean())
        return found


def summary(seeds: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean, spread (standard deviation over seeds, None for one) and values of each figure."""
    found = {}
    for name in seeds[0]:
        values = [figures[name] for figures in seeds]
        spread = statistics.stdev(values) if len(values) > 1 else None
        found[name] = {"mean": statistics.fmean(values), "spread": spread, "values": values}
    return found


def table_of(rows: dict[str, dict], real: dict[str, float], costs: dict[str, dict[str, float]], seeds: int) -> Table:
    table = Table(title=f"{seeds} seed(s), mean and standard deviation" if seeds > 1 else "one seed")
    for heading in ("", *COLUMNS, "trained, M", "s a step"):
        table.add_column(heading, justify="right" if heading else "left")

    def shown(figures: dict[str, dict], key: str | tuple[str, ...]) -> str:
        if not isinstance(key, str):
            return " / ".join(f"{figures[k]['mean']:.0%}" for k in key)
        spread = figures[key]["spread"]
        return f"{figures[key]['mean']:.2f}" + ("" if spread is None else f" ± {spread:.2f}")

    for name, figures in rows.items():
        own = (f"{costs[name]['trained parameters, millions']:.1f}", f"{costs[name]['seconds a step']:.2f}")
        table.add_row(VARIANTS[name][0], *(shown(figures, key) for key in COLUMNS.values()), *own)
    table.add_row("the real clips, from another start", *(shown(summary([real]), key) for key in COLUMNS.values()))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--model", type=Path, default=default_model(), help="image tower; D_t where there is no --start"
    )
    parser.add_argument("--start", type=Path, help="the network that decoder-image exported")
    parser.add_argument("--features", default="emoji", help="network of the distance: emoji or a folder")
    parser.add_argument("--runs", type=Path, default=Path("runs/thesis"))
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--steps", type=int, help="training steps instead of the recipe's")
    parser.add_argument("--set", action="append", default=[], help="key=value, of the recipe of all four runs")
    parser.add_argument("--concepts", type=int, default=24, help="in each of the two groups")
    parser.add_argument("--frames", type=int, default=16, help="of a video; a multiple of four")
    parser.add_argument("--fps", type=float, default=8.0)
    parser.add_argument("--sampling-steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--repetitions", type=int, default=5, help="steps timed")
    parser.add_argument("--json", type=Path, help="write the figures, after every seed")
    arguments = parser.parse_args()
    if min(arguments.seeds, arguments.repetitions, arguments.sampling_steps) < 1 or arguments.concepts < 2:
        raise UserError("Seeds, repetitions and sampling steps must be 1 or more and concepts 2 or more: correct them.")

    pipe = MakeAVideoPipeline.load(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    judge = Judge(arguments, pipe)
    real = judge.figures(judge.again)
    start = start_of(arguments)
    costs = cost(recipes_of(arguments, start, 0), arguments.repetitions)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(arguments.seeds):
        recipes = recipes_of(arguments, start, seed)
        for name, recipe in recipes.items():
            Console().print(f"seed {seed}: {VARIANTS[name][0]}", highlight=False)
            found[name].append(judge.figures(judge.videos(run(recipe), seed)))
        rows = {name: summary(figures) for name, figures in found.items()}
        if arguments.json:
            given = {key: x for key, x in vars(arguments).items() if not isinstance(x, Path | None)}
            paths = {"output": True, "init_from": True, "image_encoder": True, "data": {"roots", "stills"}}
            recipe = recipes["paper"].model_dump(mode="json", exclude={**paths, "seed": True})
            variants = {name: own for name, (_, own) in VARIANTS.items()}
            groups = {f"concepts {group}": arguments.concepts for group in GROUPS}
            record = {
                "measure": "the thesis: four ways to make a video network",
                "values": {name: rows[name] | costs[name] for name in rows},
                "real clips from another start": real,
                "settings": {**given, "recipe": recipe, "variants": variants, "keys": judge.keys},
                "counts": {**groups, "stills compared": len(judge.known)},
                "seeds": list(range(seed + 1)),
                "network": {"name": judge.features.name, "weights": judge.features.weights},
                "start": {"weights": hash_of(start), "made of D_t": arguments.start is None},
                "image_encoder": {"weights": hash_of(arguments.model / "image_encoder")},
                "command": command_line(),
                "date": today(),
                "machine": machine(),
                "versions": {name: version(name) for name in ("makeavideo", "torch", "diffusers", "numpy")},
            }
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    Console(width=None if sys.stdout.isatty() else 160).print(table_of(rows, real, costs, arguments.seeds))


if __name__ == "__main__":
    one_sentence(main)
