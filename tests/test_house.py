"""The rules of CONTRIBUTING.md that a program can see."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    file for folder in ("src", "tests", "benchmarks", "examples", "docs") for file in (ROOT / folder).rglob("*.py")
]
SOURCES = [file for file in FILES if ROOT / "src" in file.parents]
MODULE, FUNCTION = 400, 60


def shown(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def functions(file: Path) -> list[ast.FunctionDef]:
    tree = ast.walk(ast.parse(file.read_text()))
    return [node for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_imports_run_one_way():
    """Layers and what may import what stand in pyproject.toml. Another process: the linter turns off all loggers."""
    pytest.importorskip("importlinter")
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_and_functions_are_small():
    large = [f"{shown(file)}: {n} lines" for file in FILES if (n := len(file.read_text().splitlines())) > MODULE]
    long = [
        f"{shown(file)}: {function.name} has {n} lines"
        for file in FILES
        for function in functions(file)
        if (n := function.end_lineno - function.lineno + 1) > FUNCTION
    ]
    assert not large + long, "\n".join(large + long)


def test_nothing_imports_torchvision():
    found = [shown(file) for file in FILES if re.search(r"^\s*(import|from) torchvision", file.read_text(), re.M)]
    assert not found


def test_every_module_says_what_it_is():
    silent = [shown(file) for file in SOURCES if not ast.get_docstring(ast.parse(file.read_text()))]
    assert not silent


def test_every_public_function_of_the_core_is_documented():
    """What the paper describes: the modules that a reader opens first."""
    core = ("pseudo3d", "inflation", "sampling", "flow", "timeline", "cascade", "pipeline")
    silent = [
        f"{name}.{node.name}"
        for name in core
        for node in ast.parse((ROOT / "src" / "makeavideo" / f"{name}.py").read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_" and not ast.get_docstring(node)
    ]
    assert not silent


def test_the_reference_is_of_this_code(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import api

    assert (ROOT / "docs" / "api.md").read_text() == api.page(), "run python docs/api.py"


def test_the_picture_of_the_imports_is_of_this_code(monkeypatch):
    pytest.importorskip("grimp")
    monkeypatch.syspath_prepend(ROOT / "docs")
    import architecture

    page = (ROOT / "docs" / "architecture.md").read_text()
    assert architecture.TABLE.search(page).group() == architecture.table(architecture.imports()), (
        "run python docs/architecture.py"
    )
