"""What can be known before the cascade is loaded is refused before torch is imported: it takes no time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from makeavideo.media.writer import write_video

CALLS = """
import contextlib, io, json, sys
from makeavideo.cli.main import main
told = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["make-a-video", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    told.append((code, said.getvalue(), sorted({"torch", "diffusers", "transformers"} & set(sys.modules))))
json.dump(told, sys.stdout)
"""
REFUSED = [
    (["generate", "a dog", "--fast", "--size", "130"], "16, 64, 192 pixels"),
    (["generate", "a dog", "--size", "0"], "--size 0"),
    (["generate", "a dog", "--count", "100000", "--size", "130"], "16, 64, 192 pixels"),
    (["generate", "\u200b\ufeff "], "The prompt is empty"),
    (["generate", "a dog", "--fast", "--fps", "100"], "--fps 100 is not possible: choose from 1 to 60"),
    (["generate", "a dog", "--fast", "--fps", "0"], "--fps 0 is not possible: choose from 1 to 60"),
    (["generate", "a dog", "--fast", "--fps", "55", "-o", "a.gif"], "between 0.01 and 50 for .gif"),
    (["generate", "a dog", "--num-frames", "3", "-o", "a.png"], "cannot write 3 frames to a.png"),
    (["extend", "clip.mp4", "--num-frames", "1", "-o", "a.png"], "cannot write 13 frames to a.png"),
    (["generate", "a dog", "--seconds", "1e308"], "longer than a day"),
    (["generate", "a dog", "--motion-module-scale", "nan"], "--motion-module-scale nan is not possible"),
    (["generate", "a dog", "--motion-module-scale", "0.5"], "has nothing to scale: give --motion-module"),
    (["generate", "a dog", "--fast", "--num-frames", "0"], "--num-frames 0"),
    (["generate", "a dog", "--fast", "--steps", "0"], "--steps 0"),
    (["generate", "a dog", "--steps", "1001"], "--steps 1001"),
    (["generate", "a dog", "--guidance", "nan"], "--guidance nan"),
    (["generate", "a dog", "--guidance", "-1"], "--guidance -1"),
    (["generate", "a dog", "--motion", "1"], "leave out --motion"),
    (["generate", "a dog", "--seconds", "inf"], "--seconds inf"),
    (["generate", "a dog", "--num-frames", "5", "--seconds", "1"], "choose one"),
    (["generate", "a dog", "--num-frames", "2", "--loop"], "loop of 2"),
    (["generate", "a dog", "-o", "picture.png/a.mp4"], "picture.png"),
    (["generate", "a dog", "-o", "a.xyz"], ".xyz"),
    (["generate", "a dog", "--model", "nowhere"], "models/emoji"),
    (["generate", "a dog", "--model", "damaged"], "prior/config.json"),
    (["web", "--model", "nowhere", "--port", "0"], "no model at nowhere"),
    (["web", "--host", "300.1.1.1"], "Cannot listen on 300.1.1.1, port 7860"),
    (["web", "--host", "x" * 300], "choose another --host"),
    (["generate", "a dog", "--device", "tpu"], "--device tpu is not possible"),
    (["evaluate", "fvd", ".", ".", "--short", "perhaps"], "--short is skip or loop"),
    (["evaluate", "fvd", ".", ".", "--protocol", "mine"], "no protocol 'mine'"),
    (["evaluate", "clipsim", ".", "--clip", "nowhere"], "no folder of CLIP nowhere"),
    (["evaluate", "retrieval", ".", "--clip", ".", "--captions", "none.csv"], "no table of captions none.csv"),
    (["extend", "picture.png", "--seconds", "2", "--size", "64"], "a single picture"),
    (["extend", "clip.mp4", "--size", "250x140"], "16, 64, 192 pixels"),
    (["extend", "clip.mp4", "--prompt-weight", "2"], "--prompt-weight 2"),
    (["vary", "picture.png"], "a single picture"),
    (["vary", "clip.mp4", "--fit", "neither"], "neither"),
    (["animate", "clip.mp4"], "clip.mp4"),
    (["animate", "picture.png", "--prompt-weight", "-1"], "--prompt-weight -1"),
    (["interpolate", "picture.png", "picture.png", "--num-frames", "99"], "3 to 76 frames"),
    (["evaluate", "fvd", "damaged", "damaged", "--network", "clip.mp4"], "add --trust"),
    (["evaluate", "is", "damaged", "--network", "clip.mp4"], "add --trust"),
    (["evaluate", "fvd", "real", "made", "--network", "emoji"], "There is no folder real"),
    (["evaluate", "fvd", "damaged", "damaged", "--network", "none.pt"], "There is no network none.pt"),
    (["evaluate", "ucf101", "real", "made", "--network", "emoji", "--classifier", "clip.mp4"], "add --trust"),
]


@pytest.fixture(scope="module")
def told(tiny_model, tmp_path_factory) -> list:
    """(exit code, what was said, what of the heavy is imported) of every call, one after another in one process."""
    import shutil

    folder = tmp_path_factory.mktemp("refused")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (30, 50, 3), np.uint8)).save(folder / "picture.png")
    write_video(folder / "clip.mp4", rng.integers(0, 256, (12, 32, 48, 3), np.uint8), 12)
    shutil.copytree(tiny_model, folder / "damaged")
    (folder / "damaged" / "prior" / "config.json").write_text("[" * 100_000)
    own = {"--model", "evaluate"}  # these say what model, or need none
    calls = [call if own & {*call} else [*call, "--model", str(tiny_model)] for call, _ in REFUSED]
    source = str(Path(__file__).parents[1] / "src")
    program = f"import sys; sys.path.insert(0, {source!r})\n{CALLS}"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(calls)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"picture.png", "clip.mp4", "damaged"}
    return json.loads(done.stdout)


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[" ".join(call) for call, _ in REFUSED])
def test_refused_before_torch_is_imported(told, number):
    code, said, imported = told[number]
    assert (code, imported) == (2, []), said
    assert said.startswith("make-a-video: ") and said.count("\n") == 1, said
    assert any(words in said for words in REFUSED[number][1].split("|")), said
