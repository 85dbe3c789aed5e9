"""`make-a-video compare`: people's votes on two folders of videos."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .options import LARGEST_SEED, AllowHost


class _ServeByDefault(TyperGroup):
    """`compare DIR_A DIR_B` is `compare serve DIR_A DIR_B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = ["serve", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ServeByDefault,
    no_args_is_help=True,
    help="Let people compare two folders of videos. `compare DIR_A DIR_B` is short for `compare serve DIR_A DIR_B`.",
)


@app.command()
def serve(
    folder_a: Annotated[Path, typer.Argument(metavar="DIR_A", help="Folder of videos.")],
    folder_b: Annotated[Path, typer.Argument(metavar="DIR_B", help="Folder with videos of the same names.")],
    db: Annotated[Path, typer.Option(help="File of the votes; an existing one is continued.")] = Path("votes.sqlite"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 7860,
    raters: Annotated[int, typer.Option(min=1, max=1_000_000, help="People who see each pair; odd.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Decides which video is on the left.")] = 0,
    prompts: Annotated[Path | None, typer.Option(help="CSV with columns id (the files' stem) and prompt.")] = None,
    allow_host: AllowHost = None,
) -> None:
    """Serve a page that shows two videos for a prompt and asks which is better; Ctrl-C ends it."""
    from ..serving import listen
    from ..votes.pairs import find_pairs
    from ..votes.store import Store

    listen(host, port).close()  # refused before a store is begun, and before Gradio
    pairs = find_pairs(folder_a, folder_b, prompts)
    store = Store.create(db, pairs, raters, seed)
    from ..votes.page import run  # after what is refused quickly: Gradio takes seconds

    run(store, pairs, host, port, allow_host or ())


@app.command()
def report(
    db: Annotated[Path, typer.Argument(help="File of the votes.")],
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write every vote to this file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Print how often each folder was preferred, with intervals, and how far the raters agree."""
    from ..votes.statistics import describe, figures, write_csv
    from ..votes.store import Store

    store = Store(db)
    found = figures(store)
    print(describe(found))
    if csv_file:
        write_csv(csv_file, store.votes())
    if json_file:
        from ..media.disk import write_whole

        write_whole(json_file, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
