"""The command line: `make-a-video generate | animate | interpolate | vary | extend | info | train | data | ...`."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from .errors import UserError
from .evaluation.cli import app as evaluate_app
from .evaluation.votes import app as compare_app
from .included import default_model
from .progress import ProgressLine

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make-A-Video, complete and open: videos from a sentence, learnt without text-video pairs.",
)
data_app = typer.Typer(no_args_is_help=True, help="Build data sets.")
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(compare_app, name="compare")
console = Console(stderr=True)

# Options that every use has.
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write; its ending names the format.")]
Model = Annotated[Path | None, typer.Option(help="Folder of the cascade; default: the emoji cascade.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Same seed, same machine: same video.")]
NumFrames = Annotated[int | None, typer.Option(help="Frames to make; default 76. Any number: memory does not grow.")]
Seconds = Annotated[float | None, typer.Option(help="Length to make, in seconds, instead of --num-frames.")]
Fps = Annotated[float, typer.Option(help="Frames a second, 1 to 60; the lower, the more moves from frame to frame.")]
Size = Annotated[int | None, typer.Option(help="Pixels a side: where in the cascade to stop (64, 256, 768).")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps of the decoder.")]
Guidance = Annotated[float, typer.Option(help="How closely to follow the prompt; 1 is off.")]
Motion = Annotated[float | None, typer.Option(help="How much moves: 0 (still) to 2; 1 is usual.")]
Loop = Annotated[bool, typer.Option("--loop", help="The last frame passes into the first one.")]
Fast = Annotated[bool, typer.Option("--fast", help="A quick look: 16 frames at the smallest size.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
Prompt = Annotated[str | None, typer.Option(help="Mix the meaning of these words into the picture's.")]
PromptWeight = Annotated[float, typer.Option(help="How much of the prompt to mix in, 0 to 1.")]
FitOption = Annotated[str, typer.Option("--fit", help="Pictures that are not square: crop (cut the centre) or pad.")]
Background = Annotated[str, typer.Option(help="Colour behind what is transparent or padded.")]


class Command:
    """What the five uses share: check the output, load the cascade, stream the frames to the file.

    Everything that can be refused is refused before the cascade is loaded or the file is touched. Ctrl-C, SIGTERM and a
    full disk leave a playable file of the frames so far.
    """

    def __init__(
        self,
        output: Path,
        model: Path | None,
        seed: int | None,
        num_frames: int | None,
        seconds: float | None,
        fps: float | None,
        size: int | None,
        steps: int | None,
        guidance: float,
        motion: float | None,
        loop: bool,
        fast: bool,
        quiet: bool,
    ):
        from .media.video import check_writable

        check_writable(output, **({} if fps is None else {"fps": fps}))
        self.output, self.quiet = output, quiet
        self.folder = model or default_model()
        self.seed = seed if seed is not None else int.from_bytes(os.urandom(4), "big")
        if fast and num_frames is None and seconds is None:
            num_frames = 16
        self.options = {"num_inference_steps": steps or (8 if fast else 16), "guidance_scale": guidance, "loop": loop}
        given = {"num_frames": num_frames, "seconds": seconds, "fps": fps, "size": size, "motion": motion}
        self.options |= {key: value for key, value in given.items() if value is not None}
        self.fast = fast
        self.started = time.monotonic()

    def load(self):
        """The cascade, without progress bars of its own."""
        from .work import WatchedPipeline

        pipe = WatchedPipeline.load(self.folder)
        pipe.set_progress_bar_config(disable=True)
        if self.fast:
            self.options.setdefault("size", pipe.sizes[0])
        return pipe

    def run(self, use: str, call, recipe: dict, given: int = 0, parts: int = 1) -> None:
        """`call(pipe, **options)` makes the video; `recipe` goes into the file.

        given: frames that exist already. parts: of a story.
        """
        with ProgressLine(console, self.quiet) as line:
            made, settings = self.make(line, use, call, recipe, given, parts)
        if not self.quiet:
            seconds, size = time.monotonic() - self.started, settings.size
            what = f"{self.output}: {made} frames of {size}x{size}"
            console.print(f"{what}, seed {self.seed}, {seconds:.1f} s", highlight=False, soft_wrap=True)

    def make(self, line: ProgressLine, use: str, call, recipe: dict, given: int, parts: int):
        """The file; returns its number of frames and the pipeline's settings."""
        import torch

        from .loading import weights_hash
        from .media.video import VideoWriter, terminate_as_interrupt
        from .sampling import to_uint8
        from .work import Work

        pipe = self.load()
        settings = pipe.settings(**self.options)
        generator = torch.Generator().manual_seed(self.seed)
        recipe = {
            "use": use,
            **recipe,
            "seed": self.seed,
            "num_frames": settings.num_frames,
            "fps": settings.fps,
            "size": settings.size,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "motion": settings.motion,
            "loop": settings.loop,
            "model": self.folder.name,
            "weights": weights_hash(self.folder),
        }
        line.begin(Work(use, settings, pipe.sizes, parts, pipe.at_once), settings.num_frames + given)
        pipe.watcher = line
        chunks = call(pipe, **self.options, generator=generator, output_type="stream").frames
        with terminate_as_interrupt():
            try:
                with VideoWriter(self.output, settings.fps, recipe, keep_partial=True) as writer:
                    for chunk in chunks:
                        for frame in to_uint8(chunk)[0]:
                            writer.write(frame)
                        line.on_written(writer.num_frames)
            except KeyboardInterrupt:
                made = writer.num_frames
                kept = f"{self.output} holds the first {made} frames" if made else "nothing was made yet"
                raise UserError(f"Stopped: {kept}.") from None
        return writer.num_frames, settings


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the video shows, in a few words.")] = None,
    output: Output = Path("video.mp4"),
    model: Model = None,
    negative: Annotated[str | None, typer.Option(help="What to steer away from.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A story: YAML list of {prompt, seconds}; one passes into the next.")
    ] = None,
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
    quiet: Quiet = False,
) -> None:
    """Make a video from a sentence, or from a story of several."""
    if prompts is not None and (prompt or num_frames or seconds):
        raise UserError("--prompts has its own prompts and length: leave out PROMPT, --num-frames and --seconds.")
    story = read_story(prompts) if prompts is not None else None
    if story is None and not (prompt or "").strip():
        raise UserError("The prompt is empty: say in a few words what the video should show.")
    command = Command(output, model, seed, num_frames, seconds, fps, size, steps, guidance, motion, loop, fast, quiet)
    if story:
        command.options.pop("num_frames", None)
        command.options["seconds"] = sum(length for _, length in story)

        def call(pipe, seconds, **options):
            return pipe(story, negative, **options)
    else:

        def call(pipe, **options):
            return pipe(prompt, negative, **options)

    recipe = {"prompt": story or prompt, "negative_prompt": negative}
    command.run("generate", call, recipe, parts=len(story) if story else 1)


@app.command()
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
    quiet: Quiet = False,
) -> None:
    """Set a picture in motion."""
    read_picture_early(picture, fit, background)
    command = Command(output, model, seed, num_frames, seconds, fps, size, steps, 2.0, motion, loop, fast, quiet)

    def call(pipe, **options):
        return pipe.animate(picture, prompt, prompt_weight, fit, background, **options)

    command.run("animate", call, {"image": picture.name, "prompt": prompt, "prompt_weight": prompt_weight, "fit": fit})


@app.command()
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
    quiet: Quiet = False,
) -> None:
    """Pass from one picture to another."""
    for picture in (first, last):
        read_picture_early(picture, fit, background)
    command = Command(output, model, seed, num_frames, seconds, fps, size, steps, 2.0, motion, loop, fast, quiet)

    def call(pipe, **options):
        return pipe.interpolate(first, last, fit, background, **options)

    command.run("interpolate", call, {"first": first.name, "last": last.name, "fit": fit})


@app.command()
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
    quiet: Quiet = False,
) -> None:
    """Make another video of the same meaning."""
    from .media.video import probe

    found = probe(video)
    if keep_timing:
        if num_frames is not None or seconds is not None:
            raise UserError("--keep-timing sets the length: leave out --num-frames and --seconds.")
        fps = min(60.0, max(1.0, found.fps))
        num_frames = max(1, round(found.duration * fps))
    command = Command(output, model, seed, num_frames, seconds, fps, size, steps, guidance, motion, loop, fast, quiet)

    def call(pipe, **options):
        return pipe.vary(video, fit, background, **options)

    command.run("vary", call, {"video": video.name, "fit": fit})


@app.command()
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
    quiet: Quiet = False,
) -> None:
    """Continue a video, as long as you like: the video, then new frames that follow from its last ones."""
    from .media.video import probe

    found = probe(video)
    rate = fps if fps is not None else min(60.0, max(1.0, found.fps))
    command = Command(output, model, seed, num_frames, seconds, rate, size, steps, 2.0, motion, loop, fast, quiet)

    def call(pipe, **options):
        return pipe.extend(video, prompt, prompt_weight, fit, background, **options)

    recipe = {"video": video.name, "prompt": prompt, "prompt_weight": prompt_weight, "fit": fit}
    command.run("extend", call, recipe, given=round(found.duration * rate))


def read_picture_early(path: Path, fit: str, background: str) -> None:
    """A picture that cannot be used is refused before the cascade is loaded."""
    from .media.inputs import read_picture

    read_picture(path, 8, fit, background)


def read_story(path: Path) -> list[tuple[str, float]]:
    """A YAML list of {prompt: ..., seconds: ...}.

    Raises:
        UserError: no such file, not YAML, or not such a list.
    """
    import yaml

    try:
        parts = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise UserError(f"The story {path} cannot be read: give a YAML file.") from None
    shape = f"The story {path} is not a list of parts: write `- {{prompt: a rocket, seconds: 3}}`, a line a part."
    if not isinstance(parts, list) or not parts:
        raise UserError(shape)
    story = []
    for part in parts:
        if not isinstance(part, dict) or set(part) != {"prompt", "seconds"}:
            raise UserError(shape)
        prompt, seconds = part["prompt"], part["seconds"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f"A prompt of the story {path} is empty: say in a few words what to show.")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise UserError(f"The story {path} gives {prompt!r} {seconds!r} seconds: use a number above 0.")
        story.append((prompt, float(seconds)))
    return story


@app.command()
def web(
    host: Annotated[
        str, typer.Option(help="Address to listen on; only this machine can reach the default.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 7860,
    model: Model = None,
    gallery: Annotated[Path, typer.Option(help="Folder of what was made.")] = Path("gallery"),
) -> None:
    """Open the studio: a page to make, animate, join, vary and continue videos."""
    from .web import serve

    serve(host, port, model or default_model(), gallery)


@app.command()
def info(file: Annotated[Path, typer.Argument(help="A file that `generate` wrote.")]) -> None:
    """Print what a file shows and the recipe that it carries."""
    import json

    from .media.video import probe

    found = probe(file)._asdict()
    print(json.dumps({"file": str(file), **found}, indent=2, ensure_ascii=False))


@app.command()
def train(
    path: Annotated[Path, typer.Argument(help="A recipe, or a folder of recipes with a plan: recipes/emoji.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, dots for nested keys; STAGE:key=value in a plan.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="One recipe: continue from the newest checkpoint.")] = False,
    hours: Annotated[float | None, typer.Option(help="Share so many hours out among the plan's stages.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this stage of the plan; can be repeated.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="This stage of the plan and those after it.")] = None,
    pictures: Annotated[list[str] | None, typer.Option(help="Folder or shard of your captioned pictures.")] = None,
    clips: Annotated[list[str] | None, typer.Option(help="Folder or shard of your clips.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Folder of the model that a plan makes.")] = None,
) -> None:
    """Train one stage, or a whole cascade by a plan; the same command goes on where a plan was stopped."""
    from .training.plan import Wishes, check

    wishes = Wishes(
        tuple(overrides or ()), hours, tuple(only or ()), start, tuple(pictures or ()), tuple(clips or ()), output
    )
    check(path, wishes, resume)
    from .training.run import train_path

    console.print(train_path(path, wishes, resume), highlight=False, markup=False)


@app.command()
def assemble(
    folder: Annotated[Path, typer.Argument(help="Where to put the cascade.")],
    runs: Annotated[Path, typer.Option(help="Folder of the stages' outputs.")] = Path("runs/emoji"),
) -> None:
    """Put the networks of a folder of finished stages together as one pipeline."""
    from .training.assemble import assemble as run

    console.print(f"assembled: {run(runs, folder)}", highlight=False)


@data_app.command("pack")
def data_pack(
    source: Annotated[Path, typer.Argument(help="Folder of pictures, clips, or folders of them.")],
    folder: Annotated[Path, typer.Argument(help="Where to put the shards.")],
    size: Annotated[int, typer.Option(help="Pixels a side: data.size of the recipes that will read them.")],
    quality: Annotated[
        int | None, typer.Option(help="1 to 100; default: stills lossless, clips 80.", min=1, max=100)
    ] = None,
    background: Background = "#ffffff",
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.", min=1)] = None,
) -> None:
    """Write small webdataset shards at the training's own size, which train faster and travel."""
    from .data.pack import pack

    with Progress(console=console) as bar:
        task = bar.add_task("packed", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        packed, report = pack(source, folder, size, quality, background, workers or os.cpu_count() or 1, tell)
    made = f"{packed.stills} stills, {packed.clips} clips of {packed.frames} frames"
    console.print(f"{folder}: {made}, {packed.bytes / 1e6:.1f} MB, {packed.psnr:.1f} dB", highlight=False)
    if len(report):
        console.print(report.text(), markup=False, highlight=False, soft_wrap=True)


@data_app.command("emoji")
def data_emoji(
    folder: Annotated[Path, typer.Argument(help="Where to build the emoji data set.")],
    cache: Annotated[Path | None, typer.Option(help="Folder for downloaded packages.")] = None,
) -> None:
    """Build the emoji data set from pinned npm packages: captioned pictures, silent clips, large vectors."""
    from .emoji.build import build_emoji

    tasks: dict[str, int] = {}
    with Progress(console=console) as bar:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        counts = build_emoji(folder, cache, tell)["counts"]
    console.print(counts)


def main() -> None:
    """Entry point: a `UserError` becomes one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"make-a-video: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
