"""Installed by pip into an environment of its own, it works from any folder: wheels of the code and of the weights."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from makeavideo.media.reader import probe

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 100 * 10**6
"""Bytes of a wheel, which is what package indexes take."""


@pytest.mark.slow
def test_wheels_make_a_video_from_an_empty_folder(tmp_path):
    wheels, folder, copy = tmp_path / "wheels", tmp_path / "empty", tmp_path / "copy"
    folder.mkdir()
    copy.mkdir()
    for name in ("src", "packages", "models/emoji"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    parts = [copy, copy / "packages" / "emoji-words", copy / "packages" / "emoji"]
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels, *parts]
    subprocess.run(build, check=True, cwd=tmp_path, timeout=600)
    made = sorted(wheels.iterdir())
    assert len(made) == 3 and max(wheel.stat().st_size for wheel in made) < LARGEST

    venv.create(tmp_path / "own", with_pip=True)
    bin_folder = tmp_path / "own" / ("Scripts" if sys.platform == "win32" else "bin")
    install = [bin_folder / "python", "-m", "pip", "install", "-q", "--no-deps", "--no-index", *made]
    subprocess.run(install, check=True, timeout=600)
    (own,) = (tmp_path / "own").rglob("site-packages")
    # torch and the others are not installed twice; a path here does not run the .pth files there, so our own are unseen
    (own / "others.pth").write_text(sysconfig.get_paths()["purelib"])

    where = "import makeavideo.included as i; print(i.__file__); print(i.default_model())"
    alone = {"cwd": folder, "env": {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}}
    said = subprocess.run([bin_folder / "python", "-c", where], capture_output=True, text=True, **alone)
    assert said.returncode == 0, said.stderr
    assert all(line.startswith(str(own)) for line in said.stdout.splitlines()), said.stdout
    command = [bin_folder / "make-a-video", "generate", "a rocket", "-o", "rocket.mp4", "--size", "64", "--steps", "2"]
    subprocess.run([*command, "--num-frames", "4", "--fps", "8"], check=True, timeout=600, **alone)
    assert [file.name for file in folder.iterdir()] == ["rocket.mp4"]
    assert probe(folder / "rocket.mp4").num_frames == 4
