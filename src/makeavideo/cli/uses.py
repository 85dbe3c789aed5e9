"""`make-a-video generate | animate | interpolate | vary | extend`: the five uses."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from ..orders import Additions, Machine, asked, read_story
from ..orders import generate as from_words
from ..prompts import check_prompt, check_text
from .making import Command
from .options import (
    Background,
    Device,
    Dtype,
    Fast,
    FitOption,
    Fps,
    Guidance,
    Loop,
    Lora,
    Model,
    Motion,
    MotionModule,
    MotionModuleScale,
    NumFrames,
    Offload,
    Output,
    Prompt,
    PromptWeight,
    Quality,
    Quiet,
    Seconds,
    Seed,
    Size,
    Steps,
)


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the video shows, in a few words.")] = None,
    output: Output = Path("video.mp4"),
    model: Model = None,
    negative: Annotated[str | None, typer.Option(help="What to steer away from.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A story: YAML list of {prompt, seconds}; one passes into the next.")
    ] = None,
    seed: Seed = None,
    count: Annotated[
        int, typer.Option(min=1, max=100_000, help="Videos of this prompt, each with a seed of its own.")
    ] = 1,
    num_frames: NumFrames = None,
    seconds: Seconds = None,
    fps: Fps = 24.0,
    size: Size = None,
    steps: Steps = None,
    guidance: Guidance = 2.0,
    motion: Motion = None,
    loop: Loop = False,
    fast: Fast = False,
    quality: Quality = None,
    dtype: Dtype = None,
    device: Device = None,
    offload: Offload = None,
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    quiet: Quiet = False,
) -> None:
    """Make a video from a sentence, or from a story of several."""
    if prompts is not None and (prompt or num_frames or seconds):
        raise UserError("--prompts has its own prompts and length: leave out PROMPT, --num-frames and --seconds.")
    story = read_story(prompts) if prompts is not None else None
    if story is None:
        check_prompt(prompt)
    check_text(negative, "The negative prompt")
    if story:
        seconds = sum(length for _, length in story)
    how = Machine(dtype, device, offload)
    more = Additions.read(motion_module, motion_module_scale, lora)
    options = asked(num_frames, seconds, fps, size, steps, guidance, motion, loop, fast)
    command = Command(output, model, seed, options, fast, how, quality, quiet, count, additions=more)
    recipe = {"prompt": story or prompt, "negative_prompt": negative}
    command.run("generate", from_words(story or prompt or "", negative), recipe, parts=len(story) if story else 1)


def animate(
    picture: Annotated[Path, typer.Argument(help="The picture that is to move: its first frame.")],
    output: Output = Path("video.mp4"),
    prompt: Prompt = None,
    prompt_weight: PromptWeight = 0.3,
    fit: FitOption = "crop",
    background: Background = "#ffffff",
    model: Model = None,
    seed: Seed = None,
    num_frames: NumFrames = None,
    seconds: Seconds = None,
    fps: Fps = 24.0,
    size: Size = None,
    steps: Steps = None,
    motion: Motion = None,
    loop: Loop = False,
    fast: Fast = False,
    quality: Quality = None,
    dtype: Dtype = None,
    device: Device = None,
    offload: Offload = None,
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    quiet: Quiet = False,
) -> None:
    """Set a picture in motion."""
    from ..settings import check_mixed

    check_mixed(prompt, prompt_weight)
    fit, keep = settled_fit(fit, picture)
    read_picture_early(picture, fit, background)
    how = Machine(dtype, device, offload)
    more = Additions.read(motion_module, motion_module_scale, lora)
    options = asked(num_frames, seconds, fps, size, steps, 2.0, motion, loop, fast)
    command = Command(output, model, seed, options, fast, how, quality, quiet, keep=keep, additions=more)

    def call(pipe, **options):
        return pipe.animate(picture, prompt, prompt_weight, fit, background, **options)

    command.run("animate", call, {"image": picture.name, "prompt": prompt, "prompt_weight": prompt_weight, "fit": fit})


def interpolate(
    first: Annotated[Path, typer.Argument(help="The picture that the video starts with.")],
    last: Annotated[Path, typer.Argument(help="The picture that it ends with.")],
    output: Output = Path("video.mp4"),
    fit: FitOption = "crop",
    background: Background = "#ffffff",
    model: Model = None,
    seed: Seed = None,
    num_frames: NumFrames = None,
    seconds: Seconds = None,
    fps: Fps = 24.0,
    size: Size = None,
    steps: Steps = None,
    motion: Motion = None,
    loop: Loop = False,
    fast: Fast = False,
    quality: Quality = None,
    dtype: Dtype = None,
    device: Device = None,
    offload: Offload = None,
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    quiet: Quiet = False,
) -> None:
    """Pass from one picture to another."""
    from ..settings import check_interpolation

    fit, keep = settled_fit(fit, first)
    for picture in (first, last):
        read_picture_early(picture, fit, background)
    how = Machine(dtype, device, offload)
    more = Additions.read(motion_module, motion_module_scale, lora)
    options = asked(num_frames, seconds, fps, size, steps, 2.0, motion, loop, fast)
    command = Command(output, model, seed, options, fast, how, quality, quiet, keep=keep, additions=more)
    check_interpolation(command.settings)

    def call(pipe, **options):
        return pipe.interpolate(first, last, fit, background, **options)

    command.run("interpolate", call, {"first": first.name, "last": last.name, "fit": fit})


def vary(
    video: Annotated[Path, typer.Argument(help="The video whose meaning the new one has.")],
    output: Output = Path("video.mp4"),
    keep_timing: Annotated[bool, typer.Option("--keep-timing", help="Frame rate and length of the input.")] = False,
    fit: FitOption = "crop",
    background: Background = "#ffffff",
    model: Model = None,
    seed: Seed = None,
    num_frames: NumFrames = None,
    seconds: Seconds = None,
    fps: Fps = 24.0,
    size: Size = None,
    steps: Steps = None,
    guidance: Guidance = 2.0,
    motion: Motion = None,
    loop: Loop = False,
    fast: Fast = False,
    quality: Quality = None,
    dtype: Dtype = None,
    device: Device = None,
    offload: Offload = None,
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    quiet: Quiet = False,
) -> None:
    """Make another video of the same meaning."""
    fit, keep = settled_fit(fit, video, moving=True)
    found = open_video_early(video, fit, background)
    if keep_timing:
        if num_frames is not None or seconds is not None:
            raise UserError("--keep-timing sets the length: leave out --num-frames and --seconds.")
        fps = min(60.0, max(1.0, found.fps))
        num_frames = max(1, round(found.duration * fps))
    how = Machine(dtype, device, offload)
    more = Additions.read(motion_module, motion_module_scale, lora)
    options = asked(num_frames, seconds, fps, size, steps, guidance, motion, loop, fast)
    command = Command(output, model, seed, options, fast, how, quality, quiet, keep=keep, additions=more)

    def call(pipe, **options):
        return pipe.vary(video, fit, background, **options)

    command.run("vary", call, {"video": video.name, "fit": fit})


def extend(
    video: Annotated[Path, typer.Argument(help="The video that is to go on.")],
    output: Output = Path("video.mp4"),
    prompt: Prompt = None,
    prompt_weight: PromptWeight = 0.3,
    fit: FitOption = "crop",
    background: Background = "#ffffff",
    model: Model = None,
    seed: Seed = None,
    num_frames: NumFrames = None,
    seconds: Annotated[float | None, typer.Option(help="How long to go on, in seconds.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second; default: the video's own.")] = None,
    size: Size = None,
    steps: Steps = None,
    motion: Motion = None,
    loop: Loop = False,
    fast: Fast = False,
    quality: Quality = None,
    dtype: Dtype = None,
    device: Device = None,
    offload: Offload = None,
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    quiet: Quiet = False,
) -> None:
    """Continue a video, as long as you like: the video, then new frames that follow from its last ones."""
    from ..settings import check_given, check_mixed

    check_mixed(prompt, prompt_weight)
    fit, keep = settled_fit(fit, video, moving=True)
    found = open_video_early(video, fit, background)
    check_given(found.duration)
    rate = fps if fps is not None else min(60.0, max(1.0, found.fps))
    how = Machine(dtype, device, offload)
    more = Additions.read(motion_module, motion_module_scale, lora)
    options = asked(num_frames, seconds, rate, size, steps, 2.0, motion, loop, fast)
    given = round(found.duration * rate)
    command = Command(output, model, seed, options, fast, how, quality, quiet, keep=keep, additions=more, given=given)

    def call(pipe, **options):
        return pipe.extend(video, prompt, prompt_weight, fit, background, **options)

    recipe = {"video": video.name, "prompt": prompt, "prompt_weight": prompt_weight, "fit": fit}
    command.run("extend", call, recipe)


def settled_fit(fit: str, given: Path, moving: bool = False) -> tuple[str, Callable[[], tuple[int, int]] | None]:
    """(how what is given is fitted, its shape where the video is to keep it: then no more than a rim is cut)."""
    if fit != "keep":
        return fit, None
    from ..media import inputs

    return "crop", partial(inputs.shape_of_video if moving else inputs.shape_of, given)


def read_picture_early(path: Path, fit: Any, background: str) -> None:
    """A picture that cannot be used is refused before the cascade is loaded."""
    from ..media.inputs import read_picture

    read_picture(path, 8, fit, background)


def open_video_early(path: Path, fit: Any, background: str) -> Any:
    """The same of a video, which is looked through for its rate and length."""
    from ..media.inputs import open_video

    return open_video(path, 8, None, fit, background)
