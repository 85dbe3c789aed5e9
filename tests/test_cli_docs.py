"""The commands in the documentation are commands: every name and option in them exists, every argument is there."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from makeavideo.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/**/*.md"), *ROOT.glob("recipes/**/*.yaml")]
COMMAND = re.compile(r"^[ #$]*(?:make-a-video|python -m makeavideo(?:\.cli)?) (.*)$", re.M)


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n\s*", "", page.read_text())
        found += [(page.relative_to(ROOT).as_posix(), words) for words in COMMAND.findall(text) if "[" not in words]
    return found


def test_commands_of_the_documentation_can_be_called():
    program = typer.main.get_command(app)
    told = commands()
    assert len(told) > 30
    for page, words in told:
        given = shlex.split(words, comments=True)
        if "compare" in given[:1] and given[1] not in ("serve", "report"):
            given.insert(1, "serve")
        command, context, names = program, program.make_context("make-a-video", [*given]), list(given)
        try:
            while hasattr(command, "commands"):
                name = names.pop(0)
                command = command.commands[name]
                if not hasattr(command, "commands"):
                    command.make_context(name, names, parent=context)
        except Exception as error:
            pytest.fail(f"{page}: make-a-video {words}: {type(error).__name__} {error}")
