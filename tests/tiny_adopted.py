"""A tiny Kandinsky 2.2, adopted, with clips to train it on by the recipes of recipes/adopt."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import tiny_text_to_image as tiny
from makeavideo import MakeAVideoPipeline, UserError
from makeavideo.adoption.kinds import adopt
from makeavideo.training.recipe import Recipe

RECIPES = Path(__file__).parents[1] / "recipes" / "adopt"


def moving_clips(folder, count=3):
    folder.mkdir(parents=True)
    for number in range(count):
        frames = np.full((20, 16, 16, 3), 255, np.uint8)
        for place, frame in enumerate(frames):
            frame[4:10, (place + number) % 10 : (place + number) % 10 + 5] = (200, 60 * number, 30)
        first, *rest = map(Image.fromarray, frames)
        first.save(folder / f"{folder.name}-{number}.gif", save_all=True, append_images=rest, duration=50)
    return folder


def adopted_kandinsky(folder):
    """my-model, my/clips and my/others in the folder, as the recipes name them."""
    tiny.kandinsky(folder / "source")
    pipe = MakeAVideoPipeline.from_text_to_image(folder / "source" / "decoder")
    pipe.save_pretrained(folder / "my-model", safe_serialization=True)
    moving_clips(folder / "my" / "clips")
    moving_clips(folder / "my" / "others", 2)
    return folder


SMALL = {"steps": 2, "gradient_accumulation": 1, "sample_every": 2, "mixed_precision": "no", "checkpoints_kept": 1}


def adopt_recipe(folder, name, **changes):
    values = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    for key in {"output", "init_from", "image_encoder", "codec"} & values.keys():
        values[key] = str(folder / values[key])
    values["data"] |= {"roots": [str(folder / "my" / "clips")], "size": 16, "num_frames": 4, "num_workers": 0}
    values["optim"] |= {"kind": "adamw", "learning_rate": 1e-2, "warmup_steps": 0}
    if "prompts" in values:
        values["prompts"]["model"] = str(folder / "my-model")
        values["data"]["held_out"] = [str(folder / "my" / "others")]
    return Recipe.model_validate({**values, **SMALL, **changes})


def refusal(source, **how) -> str:
    """The one sentence with which a source is refused, which names it."""
    with pytest.raises(UserError) as error:
        adopt(source, **how)
    sentence = str(error.value)
    assert "\n" not in sentence and sentence.endswith((".", ").")) and str(source) in sentence, sentence
    return sentence
