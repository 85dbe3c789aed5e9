"""Embeddings are made once, by any number of processes, and the prior learns from them as from pictures."""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionModelWithProjection

from makeavideo import UserError
from makeavideo.data import embeddings
from makeavideo.data.embeddings import Embeddings
from makeavideo.data.images import CaptionedImages
from makeavideo.data.indexing import build_index
from makeavideo.encoders import embed_images, embed_text, load_text_encoder
from makeavideo.training.embed import Wanted, embed
from makeavideo.training.stages import STAGES
from makeavideo.training.trainer import train
from tiny_training import SIZE, draw, recipe_of, settings

pytestmark = pytest.mark.xdist_group("stages")  # they share a run of every stage


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Thirty pictures with two captions each, the third of them broken and the fourth without a caption."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(30):
        draw("red" if number % 2 else "blue", bool(number % 3), number).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"picture {number}\na thing at {number}")
    (folder / "02.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "03.txt").unlink()
    out = tmp_path_factory.mktemp("index") / "set.index"
    build_index([str(folder)], out)
    return out


@pytest.fixture
def wanted(index, cascade, training_data):
    tower = str(cascade[0] / "clip-finish" / "final" / "image_encoder")
    return Wanted(str(index), tower, str(training_data / "text"), SIZE, captions=2, batch=7, readers=0)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 8)


def test_they_are_those_of_the_networks(wanted, index, tmp_path):
    done, report = embed(wanted, tmp_path / "out")
    assert done == 30 and [path.rpartition("/")[2] for path, _ in report] == ["02.png"]
    stored, images = Embeddings(tmp_path / "out"), CaptionedImages(index, SIZE, need_captions=False)
    tower = CLIPVisionModelWithProjection.from_pretrained(wanted.image_encoder).eval()
    tokenizer, encoder = load_text_encoder(wanted.text_encoder)
    assert not stored.images[2].any() and not stored.texts[3].any() and stored.texts[2].any()
    for place in (0, 7, 29):
        with torch.no_grad():
            y_e = embed_images(tower, images[place, 0]["pixels"])[0].numpy()
        drawn = [images.draw_caption(place, random.Random(f"{place} {k}"))[0] for k in range(2)]
        np.testing.assert_allclose(stored.images[place], y_e, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(stored.texts[place], embed_text(tokenizer, encoder, drawn), atol=1e-3)
    assert stored.images.dtype == np.float16 and stored.texts.shape[:2] == (30, 2)


def test_processes_share_the_work_and_what_is_stopped_goes_on(wanted, tmp_path, monkeypatch):
    embed(wanted, tmp_path / "whole")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert embed(wanted, tmp_path / "shared")[0] == 14  # the second chunk and the fourth, of six
    with pytest.raises(UserError, match="lack 2 chunks"):
        Embeddings(tmp_path / "shared").check_whole()
    monkeypatch.setenv("RANK", "0")

    def stop(done, total):
        if done > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(wanted, tmp_path / "shared", stop)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert embed(wanted, tmp_path / "shared")[0] == 8  # one chunk was whole, another one half
    one, other = Embeddings(tmp_path / "whole"), Embeddings(tmp_path / "shared")
    assert (one.images == other.images).all() and (one.texts == other.texts).all()
    assert embed(wanted, tmp_path / "shared")[0] == 0


@pytest.mark.slow
def test_a_process_that_is_killed_is_made_up_for(wanted, tmp_path):
    """SIGKILL, the real command."""
    arguments = ["data", "embed", wanted.index, "-o", str(tmp_path / "out"), "--size", str(SIZE), "--batch", "1"]
    arguments += ["--image-encoder", wanted.image_encoder, "--text-encoder", wanted.text_encoder, "--readers", "0"]
    code = "import makeavideo.data.embeddings as e; e.CHUNK = 2; from makeavideo.cli.main import main; main()"
    call = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    done = tmp_path / "out" / "done"
    while process.poll() is None and not (done.is_dir() and len(os.listdir(done)) >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= len(os.listdir(done)) < 15
    subprocess.run(call, check=True, capture_output=True)
    assert len(os.listdir(done)) == 15
    embed(Wanted(**{**vars(wanted), "captions": 1}), tmp_path / "whole")
    assert (Embeddings(tmp_path / "whole").images == Embeddings(tmp_path / "out").images).all()


def test_the_prior_learns_from_them_with_no_network_but_its_own(wanted, cascade, training_data, tmp_path, monkeypatch):
    embed(wanted, tmp_path / "out")
    values = settings(cascade[0], training_data, "prior")
    data = {**values["data"], "roots": [wanted.index], "embeddings": str(tmp_path / "out")}
    recipe = recipe_of(values, data=data, output=str(tmp_path / "run"), image_encoder=None, text_encoder="nowhere")
    stage = STAGES["prior"](recipe, torch.device("cpu"))
    stored = Embeddings(tmp_path / "out")
    assert torch.equal(stage.dataset[(5, 1)]["embeds"], torch.from_numpy(stored.images[5].astype(np.float32)))
    texts = {tuple(stage.dataset[(5, seed)]["text"].tolist()) for seed in range(9)}
    assert texts == {tuple(text.astype(np.float32).tolist()) for text in stored.texts[5]}
    assert stage.dataset[(2, 1)]["embeds"].any() and stage.dataset[(3, 1)]["text"].any()  # others in their place
    kept = stored.images[stored.images.any(1)].astype(np.float32)
    np.testing.assert_allclose(stage.network.clip_mean[0], kept.mean(0), atol=1e-5)
    final = train(recipe)
    weights = load_file(final / "prior" / "diffusion_pytorch_model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values()) and not (final / "wordings").exists()


def test_what_does_not_fit_is_refused(wanted, cascade, training_data, tmp_path):
    out = tmp_path / "out"
    embed(wanted, out)
    for changed, sentence in (
        ({"captions": 1}, "embeddings of other captions"),
        ({"background": "red"}, "embeddings of other backgrounds"),
        ({"image_encoder": str(another_tower(wanted.image_encoder, tmp_path))}, "embeddings of other image encoders"),
    ):
        with pytest.raises(UserError, match=sentence):
            embed(Wanted(**{**vars(wanted), **changed}), out)
    with pytest.raises(UserError, match="is no index"):
        embed(Wanted(**{**vars(wanted), "index": str(training_data)}), tmp_path / "other")
    values = settings(cascade[0], training_data, "prior")
    data = {**values["data"], "embeddings": str(out)}
    with pytest.raises(UserError, match="belong to an index"):
        STAGES["prior"](recipe_of(values, data=data), torch.device("cpu"))
    with pytest.raises(UserError, match="no embeddings in"):
        STAGES["prior"](recipe_of(values, data={**data, "embeddings": str(tmp_path)}), torch.device("cpu"))
    np.savez(out / "zipped")
    for content in (b"", (out / "zipped.npz").read_bytes()):
        (out / "images.npy").write_bytes(content)
        with pytest.raises(UserError, match="no embeddings in"):
            Embeddings(out)
    (out / "embeddings.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="no embeddings in"):
        Embeddings(out)


def test_a_disk_that_gets_full_and_an_array_that_was_cut_are_one_sentence(wanted, tmp_path, monkeypatch):
    """Written through a map the first ends the process by SIGBUS, and the second is as long again, with zeros."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"cannot be written to .*: no space left"):
        patch.setattr(os, "fsync", full)
        embed(wanted, tmp_path / "out")
    assert not os.listdir(tmp_path / "out" / "done") and embed(wanted, tmp_path / "out")[0] == 30
    array = tmp_path / "out" / "texts.npy"
    array.write_bytes(array.read_bytes()[:-100])
    with pytest.raises(UserError, match="no embeddings in"):
        embed(wanted, tmp_path / "out")
    assert array.read_bytes()[-100:].strip(b"\0")


def another_tower(folder, tmp_path):
    """An image tower of the same shape with other weights."""
    tower = CLIPVisionModelWithProjection.from_pretrained(folder)
    torch.nn.init.normal_(tower.visual_projection.weight)
    tower.save_pretrained(tmp_path / "another tower")
    return tmp_path / "another tower"


def test_embeddings_of_other_pictures_or_of_another_tower_are_never_taken(wanted, cascade, training_data, tmp_path):
    """As many pictures, of the same size: only what they are tells them apart."""
    embed(wanted, tmp_path / "out")
    values = settings(cascade[0], training_data, "prior")
    known = {**values["data"], "roots": [wanted.index], "embeddings": str(tmp_path / "out")}
    STAGES["prior"](recipe_of(values, data=known, image_encoder=wanted.image_encoder), torch.device("cpu"))
    other = str(another_tower(wanted.image_encoder, tmp_path))
    with pytest.raises(UserError, match="are another image_encoder's"):
        STAGES["prior"](recipe_of(values, data=known, image_encoder=other), torch.device("cpu"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k in range(30):
        Image.new("RGB", (SIZE, SIZE), (8 * k, 0, 0)).save(pictures / f"{k}.png")
        (pictures / f"{k}.txt").write_text(f"red, number {k}")
    build_index([str(pictures)], tmp_path / "other.index", "pictures")
    with pytest.raises(UserError, match="embeddings of other pictures"):
        embed(Wanted(**{**vars(wanted), "index": str(tmp_path / "other.index")}), tmp_path / "out")
    data = {**known, "roots": [str(tmp_path / "other.index")]}
    with pytest.raises(UserError, match="are of other pictures"):
        STAGES["prior"](recipe_of(values, data=data, image_encoder=None), torch.device("cpu"))


@pytest.mark.parametrize("readers", [0, 2])
def test_pictures_of_which_none_can_be_read_are_one_sentence(wanted, tmp_path, readers):
    (tmp_path / "broken").mkdir()
    for number in range(3):
        (tmp_path / "broken" / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    build_index([str(tmp_path / "broken")], tmp_path / "set.index")
    with pytest.raises(UserError, match=r"^Nothing in .* can be read; .*png: not a picture\.$"):
        embed(Wanted(**{**vars(wanted), "index": str(tmp_path / "set.index"), "readers": readers}), tmp_path / "out")
