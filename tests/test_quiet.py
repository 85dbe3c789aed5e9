"""Loading says nothing, and hides nothing either."""

import logging
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from makeavideo import UserError
from makeavideo.encoders import TextProjection
from makeavideo.quiet import quiet_libraries
from makeavideo.training.networks import load_folder


def test_a_fresh_process_loads_and_casts_without_a_word(tiny_model):
    program = (
        "import sys; from makeavideo.pipeline import MakeAVideoPipeline; from makeavideo.encoders import *;"
        "MakeAVideoPipeline.load(sys.argv[1]).to('float16'); load_text_encoder()"
    )
    done = subprocess.run([sys.executable, "-c", program, tiny_model], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_weights_of_another_shape_and_weights_too_many_are_told(tmp_path):
    told, handler = [], logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("diffusers").addHandler(handler)
    TextProjection(4, 2).save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file(weights | {"other": weights["linear.weight"].clone()}, file, {"format": "pt"})
    with quiet_libraries():
        assert TextProjection.from_pretrained(tmp_path).linear.in_features == 4
    logging.getLogger("diffusers").removeHandler(handler)
    assert len(told) == 1 and "other" in told[0]
    save_file({"linear.weight": weights["linear.weight"][:1].clone()}, file, {"format": "pt"})
    with pytest.raises(UserError, match="another shape"):
        load_folder(TextProjection, tmp_path, "projection")


def test_what_was_set_before_holds_again():
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    with pytest.raises(ValueError, match="other"), quiet_libraries():
        assert not logging.is_progress_bar_enabled()
        raise ValueError("other")
    assert logging.is_progress_bar_enabled() == before
