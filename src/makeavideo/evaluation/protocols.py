"""The paper's zero-shot protocols (section 4.1): UCF-101 and MSR-VTT, from the data sets as they are published.

Both take `generate(prompts, seed) -> uint8 (n, frames, h, w, 3)`, so that they judge any generator. What it makes is
written as it comes: a run that was cut off goes on where it stopped, and gives the same videos.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..csv_text import read_table
from ..errors import UserError
from ..media.reader import read_recipe
from ..media.writer import write_video
from .features import FeatureNetwork
from .frechet import fvd
from .image_measures import fid, inception_score
from .results import Result
from .text_image import TextImageNetwork
from .text_measures import clipsim
from .videos import ORIGINAL, ClipProtocol, Tell

Generate = Callable[[list[str], int], np.ndarray]

SENTENCES = Path(__file__).resolve().parents[3] / "evaluation" / "ucf101.csv"
UCF101_VIDEOS = 10_000
"""What the paper makes."""


@dataclass(frozen=True)
class Task:
    """One video to make: where to, and from which sentence."""

    path: Path
    prompt: str


def make_videos(
    tasks: Sequence[Task], generate: Generate, seed: int, batch_size: int, fps: float, tell: Tell | None = None
) -> int:
    """Make the videos that are not there yet; how many that were.

    The tasks are cut into batches once and for all, and a batch's seed is that of its first task: so a batch that was
    cut off is made again as a whole, gives the same videos, and only those that lack are written.

    Raises:
        UserError: a file that stands there was made from another sentence or seed, or `generate` gives something else.
    """
    made = 0
    for start in range(0, len(tasks), batch_size):
        part = tasks[start : start + batch_size]
        missing = [row for row, task in enumerate(part) if not task.path.exists()]
        for row, task in enumerate(part):
            if row not in missing:
                check_same(task, seed + start)
        if missing:
            videos = generate([task.prompt for task in part], seed + start)
            if videos.dtype != np.uint8 or videos.ndim != 5 or len(videos) != len(part):
                raise UserError(
                    f"The generator gave {videos.dtype} {videos.shape} for {len(part)} sentences: "
                    "it must give uint8 (n, frames, height, width, 3)."
                )
            for row in missing:
                part[row].path.parent.mkdir(parents=True, exist_ok=True)
                recipe = {"prompt": part[row].prompt, "seed": seed + start}
                write_video(part[row].path, videos[row], fps, recipe)
            made += len(missing)
        if tell:
            tell("making videos", min(start + batch_size, len(tasks)), len(tasks))
    return made


def check_same(task: Task, seed: int) -> None:
    recipe = read_recipe(task.path) or {}
    if (recipe.get("prompt"), recipe.get("seed")) != (task.prompt, seed):
        raise UserError(
            f"{task.path} was made from another sentence, seed or batch size: give an empty folder or the old settings."
        )


@dataclass(frozen=True)
class Ucf101:
    """The data set as published: a folder a class with avi files, and the lists of the train-test splits.

    root: the folder with ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi and so on; the lists (trainlist01.txt) lie there,
        beside it, or in a folder ucfTrainTestlist.
    split: 1, 2 or 3. The paper does not say which; 1 is the usual one.
    """

    root: Path
    split: int = 1

    def training_list(self) -> Path | None:
        """The file with the training set's videos, None where it is not there."""
        root, name = Path(self.root), f"trainlist{self.split:02d}.txt"
        places = (root, root / "ucfTrainTestlist", root.parent, root.parent / "ucfTrainTestlist")
        return next((place / name for place in places if (place / name).is_file()), None)

    def train_videos(self) -> list[Path]:
        """The videos of the training list, or all videos where there is no list. Raises UserError: nothing there."""
        root, listed = Path(self.root), self.training_list()
        if listed:
            videos = [root / line.split()[0] for line in listed.read_text("utf-8").splitlines() if line.strip()]
        else:
            videos = sorted(root.glob("*/*.avi"))
        missing = next((path for path in videos if not path.is_file()), None)
        if missing or not videos:
            raise UserError(f"{root} is no UCF-101 ({missing or 'class/*.avi'} lacks): give the folder of classes.")
        return videos


def ucf101_sentences(path: str | Path | None = None) -> dict[str, str]:
    """Class name -> the sentence written for it. Raises UserError: no such csv, or other columns."""
    return {name: row["sentence"] for name, row in read_table(path or SENTENCES, "class", "sentence").items()}


def shares(classes: Sequence[str], count: int) -> dict[str, int]:
    """`count` divided as the classes of a list with one entry a video; the largest remainders get the rest."""
    names, sizes = np.unique(list(classes), return_counts=True)
    exact = sizes * count / sizes.sum()
    given = np.floor(exact).astype(int)
    given[np.argsort(given - exact, kind="stable")[: count - given.sum()]] += 1
    return dict(zip(names.tolist(), given.tolist(), strict=True))


def ucf101_tasks(data: Ucf101, sentences: dict[str, str], output: Path, count: int) -> list[Task]:
    """One task a video: output/Class/00000.mp4. Raises UserError: a class without sentence."""
    given = shares([path.parent.name for path in data.train_videos()], count)
    unknown = next((name for name in given if name not in sentences), None)
    if unknown:
        raise UserError(f"The class {unknown} has no sentence: add it to the table.")
    return [
        Task(output / name / f"{number:05d}.mp4", sentences[name])
        for name, number_of in given.items()
        for number in range(number_of)
    ]


def ucf101(
    root: str | Path,
    output: str | Path,
    generate: Generate,
    features: FeatureNetwork | str,
    scorer: FeatureNetwork | str,
    count: int = UCF101_VIDEOS,
    split: int = 1,
    protocol: ClipProtocol = ORIGINAL,
    sentences: str | Path | None = None,
    seed: int = 0,
    draws: int = 100,
    batch_size: int = 8,
    fps: float = 24.0,
    tell: Tell | None = None,
) -> list[Result]:
    """Zero-shot UCF-101: IS and FVD of videos made from one sentence a class.

    The paper makes 10,000 videos with the class distribution of the training set, from a sentence written for each
    class (its own are not published; ours are evaluation/ucf101.csv). FVD is against the training set's videos.

    Args:
        features: for FVD, see `features.video_features`.
        scorer: for IS, see `features.classifier`; a TorchScript file is taken for a classifier of clips (C3D).
        protocol: which frames; the paper does not say which it took.

    Raises:
        UserError: not the data set, a class without sentence, `generate` or a network gives something else.
    """
    data, output = Ucf101(Path(root), split), Path(output)
    tasks = ucf101_tasks(data, ucf101_sentences(sentences), output, count)
    made = make_videos(tasks, generate, seed, batch_size, fps, tell)
    files = [task.path for task in tasks]
    distance = fvd(data.train_videos(), files, features, protocol, seed, draws, batch_size, tell)
    score = inception_score(
        files, scorer, clips=True, frames=protocol.num_frames, seed=seed, draws=draws, batch_size=batch_size, tell=tell
    )
    settings = {"root": str(root), "made": str(output), "split": split, "batch_size": batch_size, "fps": fps}
    settings |= {"real": "training list" if data.training_list() else "all videos, no list found"}
    return [named("UCF-101 zero-shot", result, settings, made) for result in (score, distance)]


@dataclass(frozen=True)
class MsrVtt:
    """The data set as published: a json with videos and sentences, and a folder with video7010.mp4 and so on.

    split: the paper takes all captions of the test split, 59,794 in its count.
    """

    table: Path
    videos: Path
    split: str = "test"

    def captions(self) -> list[tuple[str, str, str]]:
        """(sentence id, video id, caption) of the split, in the file's order. Raises UserError: not that json."""
        try:
            data = json.loads(Path(self.table).read_text(encoding="utf-8"))
            chosen = {video["video_id"] for video in data["videos"] if video["split"] == self.split}
            found = [
                (str(row["sen_id"]), row["video_id"], row["caption"])
                for row in data["sentences"]
                if row["video_id"] in chosen
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.table} is no MSR-VTT json ({error!r}): give test_videodatainfo.json.") from None
        if not found:
            raise UserError(f"{self.table} has no caption of the split {self.split}: give the json of that split.")
        return found

    def real_videos(self) -> list[Path]:
        """The split's videos that are there: some are no longer to be had. Raises UserError: none."""
        names = dict.fromkeys(video for _, video, _ in self.captions())
        files = [Path(self.videos) / f"{name}.mp4" for name in names]
        found = [path for path in files if path.is_file()]
        if not found:
            raise UserError(f"{self.videos} holds no {files[0].name}: give the folder of the split's videos.")
        return found


def msrvtt(
    table: str | Path,
    videos: str | Path,
    output: str | Path,
    generate: Generate,
    inception: FeatureNetwork | str,
    clip: TextImageNetwork | str,
    count: int | None = None,
    frames: int = 16,
    seed: int = 0,
    draws: int = 100,
    batch_size: int = 8,
    fps: float = 24.0,
    tell: Tell | None = None,
) -> list[Result]:
    """Zero-shot MSR-VTT: FID and CLIPSIM of one video for each caption of the test split.

    Args:
        table, videos: see MsrVtt.
        inception: for FID, see `features.image_features`.
        clip: for CLIPSIM, see `features.text_image_network`.
        count: fewer captions, drawn by the seed; none: all, as the paper.
        frames: of each video, for both measures.

    Raises:
        UserError: not the data set, `generate` or a network gives something else.
    """
    data, output = MsrVtt(Path(table), Path(videos)), Path(output)
    captions, real = data.captions(), data.real_videos()
    if count is not None and count < len(captions):
        drawn = np.random.default_rng(seed).choice(len(captions), count, replace=False)
        captions = [captions[index] for index in sorted(drawn)]
    tasks = [Task(output / f"{number}.mp4", caption) for number, _, caption in captions]
    made = make_videos(tasks, generate, seed, batch_size, fps, tell)
    files, texts = [task.path for task in tasks], [task.prompt for task in tasks]
    distance = fid(real, files, inception, frames, None, seed, draws, tell=tell)
    likeness = clipsim(files, clip, texts, frames, seed, draws, tell=tell)
    settings = {"table": str(table), "real": str(videos), "made": str(output), "batch_size": batch_size, "fps": fps}
    return [named("MSR-VTT zero-shot", result, settings, made) for result in (distance, likeness)]


def named(protocol: str, result: Result, settings: dict, made: int) -> Result:
    return replace(
        result,
        measure=f"{protocol}: {result.measure}",
        settings={**result.settings, **settings},
        counts={**result.counts, "videos made in this run": made},
    )
