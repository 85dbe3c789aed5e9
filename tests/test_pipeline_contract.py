"""diffusers' own tests of a pipeline, from a checkout of diffusers, of whose code nothing is in this repository.

`DIFFUSERS=FOLDER pytest -o strict_markers=false tests/test_pipeline_contract.py`, after
`pip install parameterized requests_mock`; without the variable there is nothing to run. What is asked there is tested
in test_pipeline_options.py without it.
"""

import os
import sys
import unittest

import pytest
import torch

from conftest import tiny_contract_components
from makeavideo.pipeline import MakeAVideoPipeline

if "DIFFUSERS" not in os.environ:
    pytest.skip("DIFFUSERS names no checkout", allow_module_level=True)
sys.path.insert(0, os.environ["DIFFUSERS"])
from tests.pipelines.test_pipelines_common import PipelineTesterMixin


@pytest.fixture(autouse=True)
def known_to_diffusers(monkeypatch):
    """It looks there for the source of the class. And it saves pickles, to be quick, which are not read here."""
    monkeypatch.setattr("diffusers.pipelines.MakeAVideoPipeline", MakeAVideoPipeline, raising=False)
    save = MakeAVideoPipeline.save_pretrained
    safe = lambda self, *args, **options: save(self, *args, **{**options, "safe_serialization": True})  # noqa: E731
    monkeypatch.setattr(MakeAVideoPipeline, "save_pretrained", safe)
    # what it calls unet and num_images_per_prompt has other names here: without them it would return at once
    monkeypatch.setattr(MakeAVideoPipeline, "unet", property(lambda pipe: pipe.decoder), raising=False)


class TestMakeAVideoPipeline(PipelineTesterMixin, unittest.TestCase):
    pipeline_class = MakeAVideoPipeline
    params = frozenset(["prompt", "negative_prompt", "guidance_scale", "prompt_embeds", "negative_prompt_embeds"])
    batch_params = frozenset(["prompt", "negative_prompt"])
    required_optional_params = frozenset(
        [
            "num_inference_steps",
            "num_videos_per_prompt",
            "generator",
            "latents",
            "output_type",
            "return_dict",
            "callback_on_step_end",
            "callback_on_step_end_tensor_inputs",
        ]
    )
    test_layerwise_casting = test_group_offloading = True
    frames = 3
    embeds = False

    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path):
        self.folder = tmp_path

    def get_dummy_components(self):
        return {**tiny_contract_components(self.folder), "codec": None, "super_resolution_low_last": None}

    def get_dummy_inputs(self, device, seed=0):
        what = {"prompt": "a red rocket taking off"}
        if self.embeds:
            what = {"image_embeds": torch.randn(1, 8, generator=torch.Generator().manual_seed(seed))}
        how = {"num_frames": self.frames, "fps": 8, "num_inference_steps": 2, "guidance_scale": 3.0, "size": 16}
        return {**what, **how, "generator": self.get_generator(seed), "output_type": "np"}

    def test_save_load_optional_components(self):
        self.embeds = True  # the text encoder is optional, and then there is nothing to read a prompt with
        super().test_save_load_optional_components()

    def test_num_images_per_prompt(self):
        pipe = self.pipeline_class(**self.get_dummy_components())
        for prompts in (1, 2):
            for each in (1, 2):
                inputs = self.get_dummy_inputs("cpu")
                made = pipe(**{**inputs, "prompt": prompts * [inputs["prompt"]]}, num_videos_per_prompt=each)[0]
                assert len(made) == prompts * each

    def test_callback_cfg(self):
        self.frames = 1  # so that D_t has one stage, whose steps the test counts
        super().test_callback_cfg()
