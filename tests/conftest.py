"""A whole cascade with tiny random networks: fast, offline, and built as the real one is."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# as many processes as cores run tests (pytest-xdist): one thread each, and those that they start too
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

# fixtures
from studio_page import browser, gallery, quick_site, site, uploads  # noqa: F401
from tiny_evaluation import clips, folders, networks  # noqa: F401


def pytest_addoption(parser) -> None:
    parser.addoption("--pictures", action="store_true", help="write the studio's screenshots into docs/web")
    parser.addoption("--record", action="store_true", help="write tests/same_bytes.json anew, see test_same_bytes.py")


def pytest_collection_modifyitems(items: list) -> None:
    """Groups take longest: they come first, so that at the end no process waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


def interruptible() -> None:
    """Popen's preexec_fn: the child hears Ctrl-C even where the tests run in the background, which ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """The same bytes however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "blue",
    "rocket",
    "cat",
    "taking",
    "off",
    "video",
    "of",
    "the",
]


def tiny_text_encoder(folder: Path) -> Path:
    """A random BERT with a vocabulary of a few words, saved as a transformers folder."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def tiny_decoder(**kwargs):
    """A Kandinsky-2.2-style UNet on 4x4 positions."""
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": 4,
        "in_channels": 48,
        "out_channels": 48,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "attention_head_dim": 8,
        "cross_attention_dim": 8,
        "encoder_hid_dim": 8,
        "encoder_hid_dim_type": "image_proj",
        "addition_embed_type": "image",
    }
    return UNet2DConditionModel(**{**config, **kwargs})


def tiny_resolver(factor, **kwargs):
    """A super-resolution network of one step that does more than bicubic up-sampling."""
    from makeavideo.super_resolution import SuperResolver

    network = SuperResolver(factor, width=8, depth=1, **kwargs)
    torch.nn.init.normal_(network.conv_out.weight, std=0.05)
    return network


def tiny_super_resolution():
    """A UNet for super-resolution by diffusion, as in the paper."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=8,
        in_channels=6 * 64,
        out_channels=3 * 64,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
        class_embed_type="timestep",
    )


def tiny_image_encoder():
    """A random image tower: 16 pixels a side, embeddings of 8 numbers."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=8,
    )
    return CLIPVisionModelWithProjection(config)


def tiny_components(folder: Path) -> dict:
    """Of a whole cascade, 16 -> 64 -> 192 pixels, random weights; what takes a folder is written to this one."""
    from diffusers import PriorTransformer

    from makeavideo.encoders import TextProjection, load_text_encoder
    from makeavideo.inflation import inflate, widen_input
    from makeavideo.sampling import make_scheduler

    tokenizer, text_encoder = load_text_encoder(tiny_text_encoder(folder / "text"))
    torch.manual_seed(1)
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        embedding_dim=8,
        embedding_proj_dim=16,
        num_embeddings=0,
        encoder_hid_proj_type=None,
    )
    prior.clip_std.data.fill_(1)
    modules = {
        "tokenizer": tokenizer,
        "text_encoder": text_encoder,
        "text_projection": TextProjection(16, 8),
        "image_encoder": tiny_image_encoder(),
        "prior": prior,
        "decoder": inflate(tiny_decoder(), space_to_depth=4),
        "interpolator": widen_input(inflate(tiny_decoder(), space_to_depth=4), 5),
        "super_resolution_low": tiny_resolver(4, temporal="pseudo3d"),
        "super_resolution_high": tiny_resolver(3, patch=2),
    }
    stages = ("prior", "decoder", "interpolator", "super_resolution_low", "super_resolution_high")
    schedulers = {f"{name}_scheduler": make_scheduler() for name in stages}
    return {**modules, **schedulers}


def tiny_contract_components(folder: Path) -> dict:
    """`tiny_components` with a prior that looks up."""
    from makeavideo.encoders import embed_text
    from makeavideo.wordings import WordingTable

    parts = tiny_components(folder)
    torch.manual_seed(3)
    said = [[["red rocket"]], [["blue cat"]], [["the video"]]]
    pictures = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1) * 8**0.5
    table = WordingTable.of(said, pictures, lambda texts: embed_text(parts["tokenizer"], parts["text_encoder"], texts))
    return {**parts, "wordings": table}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of a MakeAVideoPipeline: 16 -> 64 -> 192 pixels, random weights."""
    from makeavideo.pipeline import MakeAVideoPipeline

    folder = tmp_path_factory.mktemp("model")
    MakeAVideoPipeline(**tiny_components(folder)).save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """See tiny_clips.make_clips."""
    from tiny_clips import make_clips

    return make_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def training_data(tmp_path_factory) -> Path:
    """See tiny_training.make_data."""
    from tiny_training import make_data

    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def cascade(training_data, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """(folder with a run of every stage, what each one printed). Whoever uses it: pytest.mark.xdist_group("stages")."""
    from tiny_training import train_every_stage

    runs = tmp_path_factory.mktemp("runs")
    with one_thread():
        return runs, train_every_stage(runs, training_data)
