"""How each kind of file is read: all that the command, the studio and the training do with it, in a process of its own.

A reader is given a damaged file and works in a folder of its own. It returns if it could use the file, or do without
it; it raises UserError where it said in a sentence why not. All else is a fault.
"""

import contextlib
import multiprocessing
import os
import shutil
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from makeavideo.errors import UserError

WORK, LONGEST, LARGEST = 60.0, 900.0, 3 * 2**30
"""Seconds of work, seconds on a busy machine's clock, and bytes of memory that reading one small file may take."""


def each(*readings: Callable[[], object]) -> None:
    """All of them, whatever the ones before refused; the first refusal is raised in the end."""
    refused: list[UserError] = []
    for reading in readings:
        try:
            reading()
        except UserError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def read_picture_file(file: Path, folder: Path) -> None:
    """As `animate` reads it, and as training does: a whole picture beside it takes its place."""
    from makeavideo.data.images import CaptionedImages
    from makeavideo.media.inputs import read_picture

    images = CaptionedImages([file, file.parent / "whole"], 32, need_captions=False)
    assert all(images[index, 7]["pixels"].shape == (1, 3, 32, 32) for index in range(len(images)))
    each(lambda: read_picture(file), lambda: read_picture(file, 32, "pad"))


def read_clip_file(file: Path, folder: Path) -> None:
    """As `info`, `vary`, `extend`, the studio and training read it."""
    from makeavideo.data.clips import UnlabelledClips
    from makeavideo.media.inputs import open_video, sample_frames
    from makeavideo.media.reader import probe, read_recipe, read_video
    from makeavideo.web.gallery import Gallery
    from makeavideo.web.requests import from_recipe
    from makeavideo.web.uploads import Uploads

    clips = UnlabelledClips([file, file.parent / "whole"], 32, 4, fps=8)
    assert all(clips[index, 7]["pixels"].shape == (4, 3, 32, 32) for index in range(len(clips)))
    shown = folder / "gallery"
    shown.mkdir(exist_ok=True)
    shutil.copy(file, shown / "a.mp4")
    gallery = Gallery(shown)
    gallery.items()

    def restore() -> None:
        with contextlib.suppress(UserError):  # which speaks of the one file that was dropped on the page
            from_recipe(read_recipe(file), Uploads(shown / "uploads", gallery))

    each(
        restore,
        lambda: probe(file),
        lambda: read_recipe(file),
        lambda: read_video(file, max_frames=64),
        lambda: sample_frames(file, 4, 32),
        lambda: [frame for frame, _ in zip(open_video(file, 32), range(64), strict=False)],
    )


def read_shard(file: Path, folder: Path) -> None:
    """As training reads it, and `data pack`."""
    from makeavideo.data.clips import UnlabelledClips
    from makeavideo.data.images import CaptionedImages

    of_clips = "clips" in file.name
    whole = file.parent / "whole"
    read: Any = UnlabelledClips([file, whole], 32, 4, fps=8) if of_clips else CaptionedImages([file, whole], 32)
    for index in range(len(read)):
        read[index, 7]


def read_captions(file: Path, folder: Path) -> None:
    """Beside its picture, and a captioned one."""
    from makeavideo.data.images import CaptionedImages

    shutil.copy(next((file.parent / "whole").glob("*.png")), file.with_suffix(".png"))
    images = CaptionedImages([file.parent], 32)
    for index in range(len(images)):
        assert images[index, 7]["caption"].strip()


def read_prompts(file: Path, folder: Path) -> None:
    """A list of `batch`, or a story of `generate`."""
    from makeavideo.batch.rows import read_list
    from makeavideo.orders import read_story

    if file.suffix == ".yaml":
        read_story(file)
    else:
        read_list(file, {})


def read_manifest(file: Path, folder: Path) -> None:
    """What a batch goes on from: a damaged line is made again."""
    from makeavideo.batch.manifest import Manifest

    for told in Manifest(file.parent).made.values():
        assert isinstance(told["file"], str)


def read_model(file: Path, folder: Path) -> None:
    """Load it and make a video: `file` lies in a component's folder of a model, or in the model's."""
    import torch

    from makeavideo.pipeline import MakeAVideoPipeline

    model = next(parent for parent in file.parents if parent.name == "model")
    pipe = MakeAVideoPipeline.load(model)
    pipe.set_progress_bar_config(disable=True)
    pipe("a red cat", num_frames=6, size=pipe.sizes[-1], num_inference_steps=1, generator=torch.Generator())


def read_checkpoint(file: Path, folder: Path) -> None:
    """Go on with the run: what comes of it are the weights of the run that nothing happened to."""
    from makeavideo.training.plan import Wishes
    from makeavideo.training.train_plan import train_path

    run = next(parent for parent in file.parents if parent.name == "run")
    train_path(run / "recipe.yaml", Wishes(), resume=True)
    made = next((run / "final").rglob("*.safetensors")).read_bytes()
    assert made == (folder / "whole.safetensors").read_bytes(), "other weights came of it"


def read_recipe_file(file: Path, folder: Path) -> None:
    """A recipe, or a plan with its recipes."""
    from makeavideo.training.plan import Wishes, check

    is_plan = file.name == "plan.yaml"
    data = (str(file.parent),)  # a folder that is there
    own = Wishes(pictures=data, clips=data, output=str(folder / "model")) if is_plan else Wishes()
    check(file.parent if is_plan else file, own, resume=False)


def read_votes(file: Path, folder: Path) -> None:
    """As `compare report` and the page do."""
    from makeavideo.votes.statistics import describe, figures
    from makeavideo.votes.store import Store

    store = Store(file)
    describe(figures(store))
    if hand := store.hand_out("somebody"):
        store.vote(hand.token, {"quality": "left", "faithfulness": "right"})


READERS: dict[str, Callable[[Path, Path], None]] = {
    "picture": read_picture_file,
    "clip": read_clip_file,
    "shard": read_shard,
    "captions": read_captions,
    "prompts": read_prompts,
    "manifest": read_manifest,
    "model": read_model,
    "checkpoint": read_checkpoint,
    "recipe": read_recipe_file,
    "votes": read_votes,
}


class Outcome(NamedTuple):
    """What came of a damaged file.

    how: "read" (or done without), "refused", "fault". said: the sentence, or what was wrong.
    """

    how: str
    said: str
    seconds: float


def judged(kind: str, file: Path, folder: Path) -> tuple[str, str]:
    """(how, said) of reading one file in this process."""
    try:
        READERS[kind](file, folder)
    except UserError as error:
        sentence = str(error)
        named = file.name in sentence or file.parent.name in sentence or str(folder) in sentence
        if "\n" in sentence or len(sentence) > 900 + 2 * len(str(file)) or not named:
            return "fault", f"not one sentence that names the file: {sentence[:300]!r}"
        return "refused", sentence
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "fault", f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
    return "read", ""


def serve(pipe: Connection) -> None:
    """Read what is asked for, one after the other, until nobody asks any more."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with open(os.devnull, "w") as nowhere:  # libraries that print
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        while (asked := pipe.recv()) is not None:
            pipe.send(judged(*asked))


class Reader:
    """A process that reads damaged files: one that ends or hangs it is a fault, and another process goes on."""

    def __init__(self) -> None:
        self.process: Any = None

    def read(self, kind: str, file: Path, folder: Path) -> Outcome:
        if self.process is None:
            self.begin()
        started = time.monotonic()
        self.pipe.send((kind, file, folder))
        watched, before, most = psutil.Process(self.process.pid), None, 0
        while not self.pipe.poll(0.05):
            late = time.monotonic() - started > LONGEST
            if self.process.is_alive():
                most, work = max(most, watched.memory_info().rss), sum(watched.cpu_times()[:2])
                before = work if before is None else before
                late = late or work - before > WORK
            if late or most > LARGEST or not self.process.is_alive():
                what = "it took too long" if late else "it took too much memory" if most > LARGEST else "it crashed"
                code = self.process.exitcode
                self.end()
                return Outcome("fault", f"{what} (exit code {code})", time.monotonic() - started)
        try:
            how, said = self.pipe.recv()
        except EOFError:
            self.end()
            return Outcome("fault", "it crashed", time.monotonic() - started)
        return Outcome(how, said, time.monotonic() - started)

    def begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def end(self) -> None:
        """The process is over, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None
