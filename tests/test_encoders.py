"""Text and image embeddings with tiny networks, and once with the packaged text encoder."""

import math

import pytest
import torch

from conftest import tiny_image_encoder, tiny_text_encoder
from makeavideo import UserError
from makeavideo.encoders import TextProjection, embed_images, embed_text, load_text_encoder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    return tiny_text_encoder(tmp_path_factory.mktemp("text"))


def test_texts_become_unit_vectors_whatever_stands_beside_them(text_folder):
    tokenizer, encoder = load_text_encoder(text_folder)
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    embeds = embed_text(tokenizer, encoder, ["a red rocket", "cat", "the blue cat taking off"])
    assert embeds.shape == (3, 16) and embeds.dtype == torch.float32 and not embeds.requires_grad
    assert torch.allclose(embeds.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert torch.allclose(embed_text(tokenizer, encoder, ["cat"])[0], embeds[1], atol=1e-5)  # padding does not count
    assert embed_text(tokenizer, encoder, [""]).isfinite().all()
    assert embed_text(tokenizer, encoder, ["a cat " * 500]).isfinite().all()


def test_missing_text_encoder_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"no text encoder at .*nowhere"):
        load_text_encoder(tmp_path / "nowhere")


def test_pickled_text_encoder_is_refused(text_folder, tmp_path):
    folder = tiny_text_encoder(tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_text_encoder(folder)


def test_damaged_text_encoder_is_one_sentence(tmp_path):
    folder = tiny_text_encoder(tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_text_encoder(folder)


def test_an_encoder_without_pooling_layer(text_folder, tmp_path):
    from transformers import BertTokenizerFast, DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=32, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(tmp_path)
    BertTokenizerFast(str(text_folder / "vocab.txt")).save_pretrained(tmp_path)
    tokenizer, encoder = load_text_encoder(tmp_path)
    assert embed_text(tokenizer, encoder, ["red cat"]).shape == (1, 16)


@pytest.mark.parametrize("size", [16, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_image_embeddings_have_numbers_of_unit_size(size, dtype):
    tower = tiny_image_encoder().to(dtype).eval()
    embeds = embed_images(tower, torch.rand(3, 3, size, size) * 2 - 1)
    assert embeds.shape == (3, 8) and embeds.dtype == torch.float32
    assert torch.allclose(embeds.norm(dim=-1), torch.full((3,), math.sqrt(8)), atol=1e-4)


def test_text_projection_survives_saving(tmp_path):
    projection = TextProjection(16, 8)
    text = torch.randn(2, 16)
    assert torch.allclose(projection(text).norm(dim=-1), torch.ones(2), atol=1e-5)
    projection.save_pretrained(tmp_path)
    assert torch.equal(TextProjection.from_pretrained(tmp_path)(text), projection(text))


def test_the_included_text_encoder_knows_what_words_mean():
    tokenizer, encoder = load_text_encoder()
    dog, puppy, car = embed_text(tokenizer, encoder, ["a dog", "a small puppy", "a racing car"])
    assert dog.shape == (384,)
    assert dog @ puppy > dog @ car + 0.2
