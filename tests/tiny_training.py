"""The data, the networks and the recipes with which tests train every stage for a few steps."""

import contextlib
import io
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw
from rich.console import Console

from conftest import tiny_decoder, tiny_image_encoder, tiny_text_encoder
from makeavideo.inflation import inflate
from makeavideo.training.progress import Watch
from makeavideo.training.recipe import Recipe, load_recipe
from makeavideo.training.trainer import train

SIZE = 16
COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220)}


def draw(colour: str, round_one: bool, shift: int, side: int = 48) -> Image.Image:
    picture = Image.new("RGB", (side, side), "white")
    box = (4 + shift, 10, 4 + shift + side // 2, 10 + side // 2)
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if round_one else pen.rectangle)(box, fill=COLOURS[colour])
    return picture


def make_data(folder: Path) -> Path:
    """images/: four pictures with captions and a broken one; clips/: two gifs, one mp4 and an empty file; text/."""
    import av

    (folder / "images").mkdir()
    (folder / "clips").mkdir()
    for colour in COLOURS:
        for round_one, noun in ((True, "cat"), (False, "rocket")):
            draw(colour, round_one, 6).save(folder / "images" / f"{colour}-{noun}.png")
            captions = f"{colour} {noun}\na video of the {colour} {noun}\n"
            (folder / "images" / f"{colour}-{noun}.txt").write_text(captions)
        frames = [draw(colour, True, i) for i in range(18)]
        frames[0].save(folder / "clips" / f"{colour}.gif", save_all=True, append_images=frames[1:], duration=50)
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "images" / "broken.txt").write_text("a cat")
    (folder / "clips" / "empty.mp4").touch()
    with av.open(str(folder / "clips" / "moving.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for i in range(18):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(draw("red", False, i)))))
        container.mux(stream.encode())
    tiny_text_encoder(folder / "text")
    return folder


UNET = {"sample_size": 4, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}
DECODER = {
    **UNET,
    "class": "UNet2DConditionModel",
    "space_to_depth": 4,
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"],
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "attention_head_dim": 8,
    "cross_attention_dim": 8,
    "encoder_hid_dim": 8,
    "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
    "resnet_time_scale_shift": "scale_shift",
}
SUPER_RESOLUTION = {
    **UNET,
    "class": "UNet2DModel",
    "space_to_depth": 4,
    "in_channels": 6,
    "out_channels": 3,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "add_attention": False,
    "class_embed_type": "timestep",
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 8,
    "projection_dim": 8,
}
PRIOR = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}


def settings(runs: Path, data: Path, name: str) -> dict:
    """The recipe of one run, as it would stand in its YAML file."""
    images = {"roots": [str(data / "images")], "size": SIZE, "cache_gb": 0.05}
    clips = {**images, "roots": [str(data / "clips")], "num_frames": 6, "fps_low": 4, "fps_high": 24}
    tower = {"image_encoder": str(runs / "clip-finish" / "final" / "image_encoder")}
    text = {"text_encoder": str(data / "text")}
    own = {
        "clip": {"data": images, "network": VISION, **text},
        "clip-finish": {"data": images, "init_from": str(runs / "clip" / "final"), **text},
        "prior": {"data": images, "network": PRIOR, **tower, **text},
        "decoder-image": {"data": images, "network": DECODER, **tower},
        "decoder-video": {
            "data": {**clips, "stills": [str(data / "images")], "stills_per_step": 2},
            "init_from": str(runs / "decoder-image" / "final" / "decoder"),
            **tower,
        },
        "interpolator": {"data": clips, "init_from": str(runs / "decoder-video" / "final" / "decoder"), **tower},
        "sr-low-image": {"data": {**images, "size": 32, "crop": 16}, "network": SUPER_RESOLUTION},
        "sr-low-video": {
            "data": {**clips, "size": 32, "crop": 16, "num_frames": 3},
            "init_from": str(runs / "sr-low-image" / "final" / "super_resolution_low"),
            "noise": {"shared": True},
        },
        "sr-high-image": {"data": {**images, "size": 48, "crop": 24}, "network": SUPER_RESOLUTION},
    }[name]
    return {
        "stage": "clip" if name == "clip-finish" else name,
        "output": str(runs / name),
        "steps": 4,
        "batch_size": 4,
        "seed": 3,
        "mixed_precision": "no",
        "log_every": 2,
        "optim": {"learning_rate": 2e-3, "warmup_steps": 0, "ema_decay": 0.5},
        **own,
    }


def recipe_of(values: dict, **changes) -> Recipe:
    return Recipe.model_validate({**values, **changes})


RUNS = (
    "clip",
    "clip-finish",
    "prior",
    "decoder-image",
    "decoder-video",
    "interpolator",
    "sr-low-image",
    "sr-low-video",
    "sr-high-image",
)


def train_every_stage(runs: Path, data: Path) -> dict[str, str]:
    """Fill a folder with a run of every stage, each from its YAML file and the exports before it; what each printed."""
    printed = {}
    for name in RUNS:
        path = runs / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings(runs, data, name)))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert train(load_recipe(path)) == runs / name / "final"
        printed[name] = out.getvalue()
    return printed


def everything_of_the_decoder(folder: Path) -> dict:
    """A recipe of D_t with all that it can learn, on a square that moves at different speeds."""
    for name in ("clips", "images"):
        (folder / name).mkdir()
    for speed in (1, 2, 3, 4):
        frames = [np.full((SIZE, SIZE, 3), 255, np.uint8) for _ in range(24)]
        for place, frame in enumerate(frames):
            left = 2 + (speed * place // 2) % (SIZE - 6)
            frame[6:10, left : left + 4] = (200, 40 * speed, 30)
        pictures = [Image.fromarray(frame) for frame in frames]
        pictures[0].save(
            folder / "clips" / f"{speed}.png", format="PNG", save_all=True, append_images=pictures[1:], duration=50
        )
        (folder / "clips" / f"{speed}.png").rename(folder / "clips" / f"{speed}.apng")
        pictures[0].save(folder / "images" / f"{speed}.png")
    torch.manual_seed(0)
    tiny_image_encoder().save_pretrained(folder / "tower")
    inflate(tiny_decoder(), temporal="none", space_to_depth=4).save_pretrained(folder / "start")
    clips = {"roots": [str(folder / "clips")], "size": SIZE, "num_frames": 6, "fps_low": 5, "fps_high": 20}
    return {
        "stage": "decoder-video",
        "output": str(folder / "run"),
        "init_from": str(folder / "start"),
        "image_encoder": str(folder / "tower"),
        "data": {
            **clips,
            "stills": [str(folder / "images")],
            "stills_per_step": 2,
            "known_frames": 0.5,
            "other_looks": 0.5,
            "still_clips": 0.2,
        },
        "pixel_channels": 8,
        "motion": True,
        "guidance": 2.0,
        "noise": {"shared": 0.5, "gradient": 0.25},
        "steps": 4,
        "batch_size": 3,
        "seed": 3,
        "mixed_precision": "no",
        "log_every": 2,
        "optim": {"kind": "muon", "learning_rate": 2e-3, "warmup_steps": 0, "ema_decay": 0.5},
    }


def papers_interpolator(values: dict, decoder: Path, output: Path) -> Recipe:
    """F-up as in the paper, from a D_t of `everything_of_the_decoder`."""
    plain = {key: values[key] for key in ("image_encoder", "steps", "batch_size", "seed", "mixed_precision")}
    clips = {key: x for key, x in values["data"].items() if not key.startswith(("still", "known"))}
    own = {"stage": "interpolator", "guess": "none", "data": clips, "output": str(output), "init_from": str(decoder)}
    return Recipe.model_validate({**plain, **own})


def draw_square(colour, side=48, shift=0):
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((6 + shift, 8, 30 + shift, 32), fill=colour)
    pen.rectangle((24, 26, 44, 44), fill=tuple(reversed(colour)))
    return picture


def make_resolver_data(folder: Path) -> Path:
    """images/: four pictures and a broken one; clips/: two gifs."""
    (folder / "images").mkdir()
    (folder / "clips").mkdir()
    for number, colour in enumerate([(220, 30, 30), (30, 60, 220), (20, 160, 80), (90, 20, 140)]):
        draw_square(colour, shift=2 * number).save(folder / "images" / f"{number}.png")
    for number in range(2):
        shots = [draw_square((200, 30 + 100 * number, 30), shift=i) for i in range(12)]
        shots[0].save(folder / "clips" / f"{number}.gif", save_all=True, append_images=shots[1:], duration=50)
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


def resolver_recipe(folder, output, stage="sr-low-image", **changes):
    """A recipe of super-resolution in one step."""
    factor = 3 if stage == "sr-high-image" else 4
    video = stage == "sr-low-video"
    images = {"roots": [str(folder / ("clips" if video else "images"))], "size": 48, "crop": 24, "num_frames": 3}
    values = {
        "stage": stage,
        "output": str(output),
        "data": {**images, "cache_gb": 0.05},
        "network": {"class": "SuperResolver", "width": 8, "depth": 1, "patch": 2 if factor == 3 else 1},
        "super_resolution": {"crops": 2},
        "steps": 4,
        "batch_size": 2,
        "mixed_precision": "no",
        "log_every": 2,
        "optim": {"learning_rate": 2e-3, "warmup_steps": 0, "ema_decay": 0.5},
    }
    return Recipe.model_validate({**values, **changes})


def same(a, b) -> bool:
    """Whether two nested structures hold the same numbers, bit for bit."""
    if torch.is_tensor(a):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


class Said(Watch):
    """Keeps what a run says."""

    def __init__(self):
        super().__init__()
        self.console = Console(file=io.StringIO(), width=1000)

    def __str__(self):
        lines = self.console.file.getvalue().splitlines()
        return "\n".join(line for line in lines if "never used" not in line)  # the data has a broken picture
