"""What a run says of the data that it does not use, and writes into its folder."""

import shutil

import pytest

from makeavideo.training.checkpoints import checkpoints
from makeavideo.training.trainer import train
from tiny_clips import picture, write_animation
from tiny_training import SUPER_RESOLUTION, Said, recipe_of, settings

pytestmark = pytest.mark.xdist_group("stages")


def test_a_run_names_what_it_passes_by_at_its_start_and_what_it_never_used_after_an_epoch(tmp_path):
    """Clips too short, a picture among them, a second clip of one name; a run that goes on keeps its list."""
    clips = tmp_path / "clips"
    (clips / "more").mkdir(parents=True)
    for number in range(6):
        write_animation(clips / f"{number}.webp", 40 if number < 2 else 3, 40)
    write_animation(clips / "more" / "1.webp", 40, 40)
    picture(clips / "still.png", caption=None)
    (clips / "notes").write_text("of nothing")
    values = settings(tmp_path, tmp_path, "sr-low-video") | {"init_from": None, "network": SUPER_RESOLUTION}
    values["data"] |= {"short": "skip", "fps_low": 12.5, "fps_high": 12.5, "num_frames": 5, "roots": [str(clips)]}
    recipe, watch = recipe_of(values, checkpoint_steps=2, sample_every=0), Said()
    train(recipe, watch=watch)
    lines = watch.console.file.getvalue().splitlines()
    assert lines[0] == (
        f"Skipped 2 files: {clips}/notes (a file whose name has no ending); {clips}/still.png (a picture beside clips)."
    )
    short = "too short for 5 frames at 12.5 a second"
    named = "; ".join(f"{clips}/{number}.webp ({short})" for number in range(2, 6))
    assert lines[-1] == " ".join([f"4 of 7 clips were never used (4 {short}): {named}.", lines[0]])
    written = (tmp_path / "sr-low-video" / "skipped.txt").read_text()
    assert sorted(line.partition("\t")[0] for line in written.splitlines()) == [
        "a file whose name has no ending",
        "a picture beside clips",
        *[short] * 4,
    ]
    shutil.rmtree(checkpoints(tmp_path / "sr-low-video")[-1])
    train(recipe, resume=True)
    assert (tmp_path / "sr-low-video" / "skipped.txt").read_text() == written
