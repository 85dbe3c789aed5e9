"""What the soak stands on: small real files of every kind, a cascade trained from them, and commands that are started.

Nothing is downloaded: pictures and clips are drawn, and recipes/tiny, cut to a few steps, makes the cascade.
"""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from makeavideo.media.writer import write_video

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes" / "tiny"
PROMPTS = ("red cat", "blue rocket", "the red rocket", "a blue cat")
PICTURE_KINDS = ("png", "jpg", "webp", "avif")
CLIP_KINDS = ("mp4", "webm", "gif", "webp", "apng", "mkv")
NARROW = ("network.block_out_channels=[16, 24]", "network.norm_num_groups=8")
FEW_STEPS = (
    *(f"{stage}:{key}" for stage in ("decoder-image", "sr-low-image", "sr-high-image") for key in NARROW),
    "decoder-image:network.attention_head_dim=8",
    "batch_size=2",
    "sample_every=0",
    "log_every=1",
    "decoder-video:data.stills_per_step=2",
)


def drawn(number: int, shift: int = 0, side: int = 48) -> Image.Image:
    """A square and a disc, whose colours and places the number decides."""
    rng = np.random.default_rng(number)
    picture = Image.new("RGB", (side, side), "white")
    pen, colours = ImageDraw.Draw(picture), rng.integers(0, 255, (2, 3))
    left, top = (int(place) for place in rng.integers(2, side // 3, 2))
    pen.ellipse((left + shift, top, left + shift + side // 2, top + side // 2), fill=tuple(map(int, colours[0])))
    pen.rectangle((top, side // 2, top + side // 3, side - 4), fill=tuple(map(int, colours[1])))
    return picture


def save_clip(file: Path, number: int, frames: int = 20) -> Path:
    """A clip of this ending."""
    pictures = [drawn(number, shift) for shift in range(frames)]
    if file.suffix == ".apng":
        pictures[0].save(file, "PNG", save_all=True, append_images=pictures[1:], duration=50)
    elif file.suffix == ".mkv":
        made = write_video(file.with_suffix(".webm"), [np.asarray(one) for one in pictures], 20, {"prompt": "a cat"})
        made.rename(file)
    else:
        write_video(file, [np.asarray(one) for one in pictures], 20, {"prompt": "a cat", "seed": number})
    return file


@dataclass
class Ground:
    """The folder of a soak, and what is in it.

    pictures: captioned in txt and json. clips: of every kind. shards: the same as tar files. lists: prompts as csv,
    txt, jsonl, and a story. model: a cascade of 32, 128 and 384 pixels; runs: the runs that it was trained in.
    """

    folder: Path
    pictures: Path = field(init=False)
    clips: Path = field(init=False)
    shards: Path = field(init=False)
    lists: Path = field(init=False)
    model: Path = field(init=False)
    runs: Path = field(init=False)

    def __post_init__(self) -> None:
        for name in ("pictures", "clips", "shards", "lists", "model"):
            setattr(self, name, self.folder / name)
        self.runs = self.folder / "model-runs"

    def draw(self) -> None:
        """All of it but the model."""
        for folder in (self.pictures, self.clips, self.shards, self.lists):
            folder.mkdir(parents=True, exist_ok=True)
        for number in range(8):
            kind = PICTURE_KINDS[number % len(PICTURE_KINDS)]
            drawn(number).save(self.pictures / f"p{number}.{kind}")
            said = PROMPTS[number % len(PROMPTS)]
            if number % 2:
                caption = json.dumps({"captions": [said], "label": said, "keywords": said.split()})
                (self.pictures / f"p{number}.json").write_text(caption)
            else:
                (self.pictures / f"p{number}.txt").write_text(said)
        for number, kind in enumerate(CLIP_KINDS):
            save_clip(self.clips / f"c{number}.{kind}", number)
        pack(self.shards / "pictures.tar", self.pictures.iterdir())
        pack(self.shards / "clips.tar", self.clips.iterdir())
        rows = [{"prompt": prompt, "seed": seed, "output": f"{seed}.mp4"} for seed, prompt in enumerate(PROMPTS)]
        (self.lists / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (self.lists / "list.csv").write_text(
            "prompt,seed,output\n" + "".join(f"{row['prompt']},{row['seed']},{row['output']}\n" for row in rows)
        )
        (self.lists / "list.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
        (self.lists / "story.yaml").write_text("".join(f"- {{prompt: {p}, seconds: 1}}\n" for p in PROMPTS[:2]))

    def train(self, steps: int = 4) -> None:
        """The model, by `make-a-video train recipes/tiny`. CalledProcessError: it failed."""
        data = ["--pictures", str(self.pictures), "--clips", str(self.clips)]
        sets = [word for one in (*FEW_STEPS, f"steps={steps}", "checkpoint_steps=2") for word in ("--set", one)]
        run("train", RECIPES, *data, *sets, "-o", self.model, timeout=1800).check_returncode()


def pack(shard: Path, files: Iterable[Path]) -> None:
    """A tar whose bytes depend on nothing but the files."""
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for file in sorted(files):
            member = tarfile.TarInfo(file.name)
            member.size = file.stat().st_size
            tar.addfile(member, io.BytesIO(file.read_bytes()))


def command(*arguments: Any) -> list[str]:
    """`make-a-video ARGUMENTS`, of this code."""
    return [sys.executable, "-m", "makeavideo", *map(str, arguments)]


def hears_signals() -> None:
    """Of a child: it hears Ctrl-C even where the soak runs in the background, and is ended with all its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def environment() -> dict[str, str]:
    """One thread, so that the same seed gives the same bytes; no colours and no network."""
    sources = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": sources, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TERM": "dumb"}


def start(*arguments: Any, **options: Any) -> subprocess.Popen:
    """The command, whose output is read later."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    given: Any = {**pipes, "env": environment(), "preexec_fn": hears_signals, **options}
    return subprocess.Popen(command(*arguments), **given)


def run(*arguments: Any, timeout: float = 600, **options: Any) -> subprocess.CompletedProcess:
    """The command, until its end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    given: Any = {**pipes, "env": environment(), "timeout": timeout, **options}
    return subprocess.run(command(*arguments), **given)


def said_in_one_sentence(errors: str) -> str | None:
    """What is wrong with what a command that failed said; None: it is one line, and no traceback."""
    lines = [line for line in errors.splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        return f"a traceback: {lines[-1][:200]}"
    if not any(line.startswith(("make-a-video: ", "Aborted")) for line in lines):
        return f"no sentence, but {' / '.join(lines)[-200:]!r}"
    return None


def contents(folder: Path, endings: Sequence[str] = ()) -> dict[str, bytes]:
    """Name -> bytes of all files in a folder, of these endings if any are named."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in files
        if not endings or file.suffix in endings
    }
