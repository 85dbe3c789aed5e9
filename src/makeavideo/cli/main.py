"""`make-a-video` and the list of its commands.

Nothing heavy is imported before a command runs, so that `--help` and the shell's completion are there at once: what
needs torch, PyAV or Gradio is imported inside the command.
"""

import atexit
import io
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..errors import UserError
from ..included import default_model
from . import batch, data, evaluate, training, uses, votes
from .options import AllowHost, Lora, Model, MotionModule, MotionModuleScale

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Make-A-Video, complete and open: videos from a sentence, learnt without text-video pairs.",
)


LONGEST = 1200
"""Characters of a sentence."""
INTERRUPTED = 130
"""Typer's exit code of Ctrl-C, where no command had begun what it says itself that it is stopped."""


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"make-a-video {__version__}")
        raise typer.Exit


@app.callback()
def before(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What goes before every command."""


for command in (uses.generate, uses.animate, uses.interpolate, uses.vary, uses.extend):
    app.command()(command)
app.command()(batch.batch)


@app.command()
def web(
    host: Annotated[
        str, typer.Option(help="Address to listen on; only this machine can reach the default.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 7860,
    model: Model = None,
    gallery: Annotated[Path, typer.Option(help="Folder of what was made.")] = Path("gallery"),
    motion_module: MotionModule = None,
    motion_module_scale: MotionModuleScale = 1.0,
    lora: Lora = None,
    allow_host: AllowHost = None,
) -> None:
    """Open the studio: a page to make, animate, join, vary and continue videos."""
    from ..model_files import check_model
    from ..orders import Additions
    from ..serving import listen

    listen(host, port).close()  # refused before anything is imported that takes seconds
    more = Additions.read(motion_module, motion_module_scale, lora)
    check_model(model or default_model())
    from ..web import serve

    serve(host, port, model or default_model(), gallery, allow_host or (), more)


@app.command()
def info(file: Annotated[Path, typer.Argument(help="A file that `generate` wrote.")]) -> None:
    """Print what a file shows and the recipe that it carries."""
    import json

    from ..media.reader import probe

    found = probe(file)._asdict()
    print(json.dumps({"file": str(file), **found}, indent=2, ensure_ascii=False))


app.command()(training.train)
app.command()(training.assemble)
app.command()(training.adopt)
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(votes.app, name="compare")


def complain(sentence: str) -> None:
    """What is wrong, and the end; a text of a megabyte that it quotes is not shown whole."""
    if len(sentence) > LONGEST:
        sentence = f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 2 :]}"
    print(f"make-a-video: {sentence}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Entry point: a `UserError` becomes one line and exit code 2; Ctrl-C is never silent."""
    # from then on Python has no handler any more, and all that is left is freeing memory
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):  # names and recipes of others hold what a terminal may not know
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="make-a-video")  # for `python -m` too: the shell's completion knows it by this name
    except UserError as error:
        complain(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        # a name that is too long, a loop of links, a folder that may not be looked into: of whatever file
        complain(f"{error.filename} cannot be used: {error.strerror}.")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("make-a-video: Stopped before anything was made.", file=sys.stderr)
        raise
