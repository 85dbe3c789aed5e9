"""`make-a-video evaluate`: the measures over folders of videos, and the paper's zero-shot protocols."""

import functools
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from ..evaluation.trust import check_trusted
from ..orders import Additions
from .options import LARGEST_SEED, Lora, Model, MotionModule, MotionModuleScale, console
from .progress import bars

app = typer.Typer(no_args_is_help=True, help="Measure folders of videos (docs/evaluation.md).")

Made = Annotated[Path, typer.Argument(help="Folder of the videos to judge.")]
Real = Annotated[Path, typer.Argument(help="Folder of the real videos to compare with.")]
Network = Annotated[str, typer.Option("--network", help="The feature network: a file, a folder, or `emoji`.")]
ClipFolder = Annotated[Path, typer.Option("--clip", help="Transformers CLIP folder; or a cascade's, as a stand-in.")]
Captions = Annotated[
    Path | None, typer.Option(help="csv with the columns file and caption; default: the prompt in each file's recipe.")
]
FrameCount = Annotated[int, typer.Option("--frames", min=1, help="Frames of each video, evenly spread.")]
Limit = Annotated[int | None, typer.Option("--max-videos", min=2, help="At most so many of each set, drawn by seed.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of what is drawn, and of the bootstrap.")]
Draws = Annotated[int, typer.Option("--bootstrap", min=0, help="Resamples for the intervals; 0: none.")]
Trust = Annotated[bool, typer.Option("--trust", help="A network that is a file, TorchScript, may run its code.")]
Output = Annotated[Path | None, typer.Option("--json", "--output", "-o", help="Write the result to this file too.")]
Batch = Annotated[int, typer.Option("--batch-size", min=1, help="Clips or frames at a time.")]


def checked(command: Callable) -> Callable:
    """Refuse what is not there before torch is imported; a package that is not installed is one sentence."""

    folders = [name for name, one in inspect.signature(command).parameters.items() if one.annotation in (Made, Real)]

    @functools.wraps(command)
    def run(*args, **kwargs):
        for name in folders:
            if not os.path.isdir(kwargs[name]):
                raise UserError(f"There is no folder {kwargs[name]}: give a folder of videos.")
        for name, what in (("clip", "folder of CLIP"), ("captions", "table of captions")):
            if kwargs.get(name) is not None and not os.path.exists(kwargs[name]):
                raise UserError(f"There is no {what} {kwargs[name]}: check its name.")
        try:
            return command(*args, **kwargs)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in {"scipy", "torchmetrics", "matplotlib"}:
                raise
            raise UserError(f'Evaluation needs {error.name}: run `pip install "makeavideo[evaluation]"`.') from None

    return run


def give(results: list, output: Path | None) -> None:
    """Print the results as JSON; one is an object, several are a list."""
    found = [result.as_dict() for result in results]
    if stills := sorted({name for result in results for name in result.still_pictures}):
        names = ", ".join(stills[:5]) + (" ..." if len(stills) > 5 else "")
        told = f"{len(stills)} still pictures are no videos and were not measured: {names}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    text = json.dumps(found[0] if len(found) == 1 else found, indent=2, ensure_ascii=False)
    print(text, flush=True)  # first: it may have taken hours
    if output:
        from ..media.disk import write_whole

        write_whole(output, text + "\n")


@app.command()
@checked
def fvd(
    real: Real,
    made: Made,
    network: Network = "emoji",
    protocol: Annotated[
        str | None, typer.Option(help="styleganv, original or emoji; default: styleganv, for emoji features emoji.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Instead of the protocol's frames.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Instead of the protocol's stride.")] = None,
    fps: Annotated[float | None, typer.Option(help="Take frames at this rate.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="Clips of each real video.")] = None,
    max_videos: Limit = None,
    short: Annotated[str | None, typer.Option(help="Videos that are too short: skip or loop.")] = None,
    seed: Seed = 0,
    bootstrap: Draws = 100,
    batch_size: Batch = 16,
    trust: Trust = False,
    output: Output = None,
) -> None:
    """Fréchet distance between videos: FVD with I3D (a .pt file) or VideoMAE (a folder), or with emoji features."""
    check_trusted(network, trust)
    from ..evaluation.videos import protocol_named

    if short not in (None, "skip", "loop"):
        raise UserError(f"--short is skip or loop, not {short}.")
    chosen = protocol_named(
        protocol or ("emoji" if network == "emoji" else "styleganv"),
        num_frames=frames,
        stride=stride,
        fps=fps,
        clips=clips,
        max_videos=max_videos,
        short=short,
    )
    from ..evaluation.features import video_features  # torch takes seconds: after what is refused quickly
    from ..evaluation.frechet import fvd as measure

    with bars(console) as tell:
        result = measure(real, made, video_features(network, trust), chosen, seed, bootstrap, batch_size, tell)
    give([result], output)


@app.command()
@checked
def fid(
    real: Real,
    made: Made,
    network: Annotated[str, typer.Option(help="inception-2015-12-05.pt, or a transformers image model's folder.")],
    frames: FrameCount = 16,
    max_videos: Limit = None,
    seed: Seed = 0,
    bootstrap: Draws = 100,
    batch_size: Batch = 32,
    trust: Trust = False,
    output: Output = None,
) -> None:
    """Fréchet distance between the frames of two folders of videos."""
    check_trusted(network, trust)
    from ..evaluation.features import image_features
    from ..evaluation.image_measures import fid as measure

    with bars(console) as tell:
        found = image_features(network, trust)
        result = measure(real, made, found, frames, max_videos, seed, bootstrap, batch_size, tell)
    give([result], output)


@app.command("is")
@checked
def inception_score(
    made: Made,
    network: Annotated[str, typer.Option(help="A classifier: a .pt file, a transformers folder, or `emoji`.")],
    clips: Annotated[bool, typer.Option("--clips", help="The .pt file judges clips (C3D), not single frames.")] = False,
    frames: FrameCount = 16,
    splits: Annotated[int, typer.Option(min=1, help="Parts that the score is averaged over.")] = 10,
    max_videos: Limit = None,
    seed: Seed = 0,
    bootstrap: Draws = 100,
    batch_size: Batch = 32,
    trust: Trust = False,
    output: Output = None,
) -> None:
    """Inception Score of a folder of videos."""
    check_trusted(network, trust)
    from ..evaluation.classifiers import classifier
    from ..evaluation.image_measures import inception_score as measure

    with bars(console) as tell:
        found, clips = classifier(network, clips, trust)
        result = measure(made, found, clips, frames, splits, max_videos, seed, bootstrap, batch_size, tell)
    give([result], output)


@app.command()
@checked
def clipsim(
    made: Made,
    clip: ClipFolder,
    captions: Captions = None,
    frames: FrameCount = 16,
    seed: Seed = 0,
    bootstrap: Draws = 1000,
    batch_size: Batch = 32,
    output: Output = None,
) -> None:
    """Likeness of text and frames by CLIP, mean over frames and videos."""
    from ..evaluation.text_measures import clipsim as measure

    with bars(console) as tell:
        result = measure(made, clip, captions, frames, seed, bootstrap, batch_size, tell)
    give([result], output)


@app.command()
@checked
def retrieval(
    made: Made,
    clip: ClipFolder,
    captions: Captions = None,
    frames: FrameCount = 16,
    seed: Seed = 0,
    bootstrap: Draws = 1000,
    batch_size: Batch = 32,
    output: Output = None,
) -> None:
    """Does a caption find its video among all? R@1, R@5, median rank."""
    from ..evaluation.text_measures import retrieval as measure

    with bars(console) as tell:
        result = measure(made, clip, captions, frames, seed, bootstrap, batch_size, tell)
    give([result], output)


@app.command()
@checked
def motion(
    made: Made,
    max_frames: Annotated[int | None, typer.Option(min=2, help="Only the first frames of each video.")] = None,
    max_videos: Limit = None,
    seed: Seed = 0,
    bootstrap: Draws = 1000,
    output: Output = None,
) -> None:
    """How much the videos move, how much what stands still flickers, how well they loop."""
    from ..evaluation.motion import motion as measure

    with bars(console) as tell:
        result = measure(made, max_frames, max_videos, seed, bootstrap, tell)
    give([result], output)


def generator_of(
    model: Path | None, frames: int, size: str | None, fps: float, steps: int, guidance: float, more: Additions
):
    """`generate(prompts, seed)` by a cascade's folder."""
    import numpy as np
    import torch

    from ..included import default_model
    from ..pipeline import MakeAVideoPipeline

    pipe = MakeAVideoPipeline.load(model or default_model(), **more.options())
    pipe.set_progress_bar_config(disable=True)

    def generate(prompts: list[str], seed: int) -> np.ndarray:
        videos: Any = pipe(
            prompts,
            num_frames=frames,
            size=pipe.sizes[0] if size is None else size,
            fps=fps,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            return_dict=False,
        )[0]
        return (np.asarray(videos) * 255).round().astype(np.uint8)

    return generate


Frames = Annotated[int, typer.Option("--frames", min=2, help="Frames to make.")]
Size = Annotated[
    str | None, typer.Option(metavar="PIXELS", help="As of generate; default: the smallest the cascade makes.")
]
Fps = Annotated[float, typer.Option(help="Frames a second.")]
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps.")]
Guidance = Annotated[float, typer.Option(help="How closely to follow the prompt; 1 is off.")]
MadeHere = Annotated[Path, typer.Argument(help="Folder for the videos made; those that are there already are kept.")]


@app.command()
@checked
def ucf101(
    root: Annotated[Path, typer.Argument(help="UCF-101: the folder with a folder of avi files a class.")],
    made: MadeHere,
    network: Annotated[str, typer.Option(help="For FVD: i3d_torchscript.pt, a VideoMAE folder, or `emoji`.")],
    classifier: Annotated[str, typer.Option(help="For IS: a TorchScript C3D, a transformers folder, or `emoji`.")],
    model: Model = None,
    count: Annotated[int, typer.Option(min=2, help="Videos to make; the paper makes 10,000.")] = 10_000,
    split: Annotated[int, typer.Option(min=1, max=3, help="Training list.")] = 1,
    protocol: Annotated[str, typer.Option(help="styleganv, original or emoji.")] = "original",
    sentences: Annotated[Path | None, typer.Option(help="csv with the columns class and sentence.")] = None,
    frames: Frames = 16,
    size: Size = None,
    fps: Fps = 24.0,
    steps: Steps = 16,
    guidance: Guidance = 2.0,
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    seed: Seed = 0,
    bootstrap: Draws = 100,
    batch_size: Batch = 8,
    trust: Trust = False,
    output: Output = None,
) -> None:
    """The paper's zero-shot UCF-101: one sentence a class, the training set's distribution; IS and FVD."""
    check_trusted(network, trust)
    check_trusted(classifier, trust)
    from ..evaluation.classifiers import classifier as load_classifier
    from ..evaluation.features import video_features
    from ..evaluation.protocols import ucf101 as measure
    from ..evaluation.videos import protocol_named

    # before hours of generation: are they there?
    features, (scorer, _) = video_features(network, trust), load_classifier(classifier, clips=True, trust=trust)
    chosen = protocol_named(protocol)
    more = Additions.read(motion_module, motion_module_scale, lora)
    generate = generator_of(model, frames, size, fps, steps, guidance, more)
    with bars(console) as tell:
        results = measure(
            root, made, generate, features, scorer, count, split, chosen, sentences, seed, bootstrap, batch_size, fps,
            tell,
        )  # fmt: skip
    give(results, output)


@app.command()
@checked
def msrvtt(
    table: Annotated[Path, typer.Argument(help="MSR-VTT's json with the test split, test_videodatainfo.json.")],
    videos: Annotated[Path, typer.Argument(help="Folder with video7010.mp4 and so on.")],
    made: MadeHere,
    network: Annotated[str, typer.Option(help="For FID: inception-2015-12-05.pt or a transformers folder.")],
    clip: ClipFolder,
    model: Model = None,
    count: Annotated[int | None, typer.Option(min=2, help="Captions, drawn by seed; default: all.")] = None,
    frames: Frames = 16,
    size: Size = None,
    fps: Fps = 24.0,
    steps: Steps = 16,
    guidance: Guidance = 2.0,
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    seed: Seed = 0,
    bootstrap: Draws = 100,
    batch_size: Batch = 8,
    trust: Trust = False,
    output: Output = None,
) -> None:
    """The paper's zero-shot MSR-VTT: a video for each caption of the test split; FID and CLIPSIM."""
    check_trusted(network, trust)
    from ..evaluation.features import image_features
    from ..evaluation.protocols import msrvtt as measure
    from ..evaluation.text_image import text_image_network

    inception, text_image = image_features(network, trust), text_image_network(clip)
    more = Additions.read(motion_module, motion_module_scale, lora)
    generate = generator_of(model, frames, size, fps, steps, guidance, more)
    with bars(console) as tell:
        results = measure(
            table, videos, made, generate, inception, text_image, count, 16, seed, bootstrap, batch_size, fps,
            tell,
        )  # fmt: skip
    give(results, output)
