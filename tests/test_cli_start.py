"""How the command line starts: help, version and the shell's completion are there before anything heavy is imported."""

import json
import os
import subprocess
import sys

import makeavideo

HEAVY = {
    *("torch", "diffusers", "transformers", "accelerate", "numpy", "scipy", "av", "PIL", "cv2", "matplotlib"),
    *("gradio", "fastapi", "yaml", "ray", "makeavideo.pipeline", "makeavideo.media", "makeavideo.emoji"),
}
HELP = (
    ("-h",),
    ("--help",),
    ("--version",),
    ("generate", "-h"),
    ("extend", "--help"),
    ("batch", "-h"),
    ("train", "-h"),
    ("data", "pack", "-h"),
    ("evaluate", "-h"),
    ("evaluate", "fvd", "--help"),
    ("compare", "-h"),
    ("compare", "--help"),
    ("compare", "serve", "-h"),
)
CALLS = """
import json, sys
from makeavideo.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["make-a-video", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, arguments
json.dump(sorted(sys.modules), sys.stderr)
"""


def called(*calls: tuple[str, ...], **environment: str) -> tuple[str, set[str]]:
    """What these calls print, one after another in a process of their own, and the modules it has imported then."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS, json.dumps(calls)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(json.loads(done.stderr))


def test_help_and_version_import_nothing_heavy():
    told, imported = called(*HELP)
    assert sorted(imported & HEAVY) == []
    for line in told.splitlines():
        assert not line.startswith("Usage: python"), line
    assert told.count("Usage: make-a-video") == len(HELP) - 1
    assert f"\nmake-a-video {makeavideo.__version__}\n" in told
    assert told.count("--install-completion") == 2


def test_the_package_alone_imports_nothing_heavy():
    code = "import json, sys, makeavideo; json.dump(sorted(sys.modules), sys.stdout)"
    imported = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {*imported} & (HEAVY | {"typer", "rich"})


def test_completing_imports_nothing_heavy():
    words = {"COMP_WORDS": "make-a-video generate --se", "COMP_CWORD": "2"}
    told, imported = called((), _MAKE_A_VIDEO_COMPLETE="complete_bash", **words)
    assert told.split() == ["--seed", "--seconds"]
    assert sorted(imported & HEAVY) == []


def test_bash_completes_after_install_completion(tmp_path):
    """As in a user's shell: the file that is installed, the function in it, the words that the shell gets."""
    told, _ = called(
        ("--install-completion", "bash"), HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "bash completion installed" in told
    program = tmp_path / "make-a-video"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m makeavideo "$@"\n')
    program.chmod(0o755)
    completed = {
        "in": ["interpolate", "info"],
        "data ": ["pack", "index", "clips", "embed", "emoji"],
        "compare re": ["report"],
    }
    for typed, wanted in completed.items():
        words = ["make-a-video", *typed.split(" ")]
        script = (
            f"source ~/.bashrc; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1};"
            f' _make_a_video_completion {program}; echo "${{COMPREPLY[@]}}"'
        )
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)}
        )
        assert done.stdout.split() == wanted, (typed, done.stderr)


def test_show_completion_prints_the_same_script():
    told, _ = called(("--show-completion", "bash"), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "complete -o default -F _make_a_video_completion make-a-video" in told


def test_every_name_of_the_program_is_the_same():
    """`python -m makeavideo` and `python -m makeavideo.cli` are `make-a-video`."""
    for name in ("makeavideo", "makeavideo.cli"):
        done = subprocess.run([sys.executable, "-m", name, "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"make-a-video {makeavideo.__version__}\n", "")
