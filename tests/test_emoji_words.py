"""Captions drawn while training, the table of known wordings, P by it, and the wording benchmark on tiny networks."""

import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import wording
from makeavideo import UserError
from makeavideo.data.images import CaptionedImages
from makeavideo.data.wordings import CaptionDraw, Wordings, groups_by_keyword
from makeavideo.emoji.concepts import concept_group
from makeavideo.pipeline import MakeAVideoPipeline
from makeavideo.wordings import WordingTable

SENTENCES = Path(wording.__file__).parents[1] / "evaluation" / "sentences.tsv"


def folder_of(root: Path, sidecars: dict[str, dict | str]) -> Path:
    root.mkdir(exist_ok=True)
    for key, said in sidecars.items():
        Image.new("RGB", (8, 8), (len(key) * 40 % 255, 90, 30)).save(root / f"{key}.png")
        ending, text = ("txt", said) if isinstance(said, str) else ("json", json.dumps(said))
        (root / f"{key}.{ending}").write_text(text)
    return root


# ---- captions ----


def test_all_that_a_sidecar_may_say(tmp_path):
    said = {
        "label": "mage",
        "phrase": "a mage",
        "names": ["the  mage"],
        "keywords": ["wizard", "mage"],
        "group": "m",
        "concept": "1f9d9",
        "n": 3,
    }
    images = CaptionedImages(folder_of(tmp_path / "a", {"one": said, "two": "a cat\nan old cat"}), 8)
    assert images.wordings(0) == Wordings(("mage", "a mage"), ("the mage",), ("wizard",), "m", "1f9d9")
    own = str(tmp_path / "a" / "two.png")  # a name alone may be that of another picture, in another folder
    assert images.wordings(1) == Wordings(("a cat", "an old cat"), (), (), own)
    assert images.captions(0) == ["mage", "a mage", "the mage", "wizard"]


def test_every_word_comes_to_stand_in_a_caption_by_itself():
    keywords = tuple(f"word{i}" for i in range(12))
    one = Wordings(("mage", "a mage"), ("sage",), keywords, "m")
    draw, rng = CaptionDraw(groups_by_keyword([one])), random.Random(0)
    drawn = [draw(one, rng) for _ in range(3000)]
    alone = Counter(words[0] for _, words in drawn if len(words) == 1)
    assert set(alone) == set(one.all)
    assert all(all(word in caption for word in words) for caption, words in drawn)
    named = sum(alone[word] for word in ("mage", "a mage", "sage"))
    assert named / 3000 == pytest.approx(0.4, abs=0.03)
    assert sum(len(words) == 2 for _, words in drawn) / 3000 == pytest.approx(0.2, abs=0.03)


def test_a_keyword_of_many_groups_is_drawn_less():
    mage = Wordings(("mage",), (), ("wizard", "person"), "m")
    others = [Wordings((f"p{i}",), (), ("person",), f"g{i}") for i in range(9)]
    variants = [Wordings(("woman mage",), (), ("wizard",), "m")] * 5  # the same group: not more common for that
    draw, rng = CaptionDraw(groups_by_keyword([mage, *others, *variants])), random.Random(0)
    alone = Counter(words[0] for _, words in (draw(mage, rng) for _ in range(4000)) if len(words) == 1)
    assert alone["wizard"] / alone["person"] == pytest.approx(10, rel=0.25)


def test_a_folder_without_keywords_has_its_captions_as_they_are(tmp_path):
    images = CaptionedImages(folder_of(tmp_path / "a", {"one": "a red square\nred thing"}), 8)
    assert {images[0, seed]["caption"] for seed in range(20)} == {"a red square", "red thing"}


# ---- the table ----

WORDS = ["cat", "dog", "pet", "rocket"]


def unit(words: list[str]) -> torch.Tensor:
    return F.one_hot(torch.tensor([WORDS.index(word) for word in words]), 4).float()


@pytest.fixture
def table() -> WordingTable:
    pictures = F.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=-1) * math.sqrt(8)
    said = [(["cat"], ["pet"]), (["dog"], ["pet", "cat"]), (["rocket"],)]
    return WordingTable.of(said, pictures, unit)


def test_a_known_wording_is_exact(table):
    y_e = table.draw(unit(["cat", "dog", "rocket"]))
    assert torch.allclose(y_e, table.pictures)  # "cat" is the label of the first, though a keyword of the second
    assert torch.allclose(table(unit(WORDS)).sum(1), torch.ones(4), atol=1e-5)


def test_seeds_draw_among_pictures_that_share_a_word(table):
    generator = torch.Generator().manual_seed(0)
    drawn = table.draw(unit(["pet"] * 40), generator)
    found = {int((y_e - table.pictures).norm(dim=1).argmin()) for y_e in drawn}
    assert found == {0, 1}
    again = table.draw(unit(["pet"] * 40), torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_a_table_survives_saving_in_half_precision(table, tmp_path):
    table.half().save_pretrained(tmp_path)
    again = WordingTable.from_pretrained(tmp_path, use_safetensors=True)
    assert torch.equal(again.owners, table.owners) and torch.equal(again.texts.half(), table.texts)
    assert torch.allclose(again.draw(unit(["dog"])), table.pictures[1:2].float())


# ---- P ----


def with_table(model: Path, folder: Path, keys: int = 2) -> MakeAVideoPipeline:
    """The tiny model with a table of pictures said to be a red cat, a blue rocket."""
    from makeavideo.encoders import embed_text

    pipe = MakeAVideoPipeline.load(model)
    assert pipe.wordings is None  # a model without one diffuses
    pictures = F.normalize(torch.randn(keys, 8, generator=torch.Generator().manual_seed(1)), dim=-1) * math.sqrt(8)
    table = WordingTable.of(
        [(["red cat"],), (["blue rocket"],)],
        pictures,
        lambda words: embed_text(pipe.tokenizer, pipe.text_encoder, words),
    )
    pipe.register_modules(wordings=table.half())
    pipe.save_pretrained(folder)
    return MakeAVideoPipeline.load(folder)


def test_p_looks_up_where_there_is_a_table(tiny_model, tmp_path):
    pipe = with_table(tiny_model, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model_index.json").read_text())["wordings"][1] == "WordingTable"
    y_e = pipe.embed_prompts(["blue rocket", "red cat"], torch.Generator().manual_seed(0))
    assert torch.allclose(y_e, pipe.wordings.pictures.float().flip(0))
    pipe.wordings = None
    diffused = pipe.embed_prompts(["blue rocket"], torch.Generator().manual_seed(0))
    assert diffused.shape == (1, 8) and not torch.allclose(diffused, y_e[:1])


# ---- the benchmark and its sentences ----


def test_the_committed_sentences():
    sentences = wording.read_sentences(SENTENCES)
    assert len(sentences.words) == len(set(sentences.words)) == 200
    assert all(sentences.right) and all(len(sentence.split()) >= 3 for sentence in sentences.words)


def test_sentences_that_cannot_be_read_are_one_sentence(tmp_path):
    (tmp_path / "bad.tsv").write_text("sentence\tconcepts\nno tab here\n")
    with pytest.raises(UserError, match=r"bad\.tsv cannot be read"):
        wording.read_sentences(tmp_path / "bad.tsv")


def test_ranks_count_the_best_still_of_a_right_group():
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.3], [0.1, 0.2, 0.3, 0.4]])
    groups = ["a", "a", "b", "c"]
    assert wording.ranks(scores, groups, [{"b"}, {"a", "c"}]) == [1, 0]
    assert wording.ranks(scores, groups, [{"unknown"}, {"a"}]) == [3, 2]


@pytest.mark.parametrize("prior", ["table", "diffusion"])
def test_the_benchmark_runs(tiny_model, tmp_path, monkeypatch, capsys, prior):
    with_table(tiny_model, tmp_path / "model")
    red, blue = "1f408", "1f680"
    said = {red: ("red cat", ["pet"]), blue: ("blue rocket", ["off"])}
    sidecars = {
        key: {"label": label, "keywords": keywords, "group": concept_group(key), "held_out_keywords": ["video"]}
        for key, (label, keywords) in said.items()
    }
    folder_of(tmp_path / "images", sidecars)
    (tmp_path / "sentences.tsv").write_text(f"sentence\tconcepts\nthe red cat taking off\t{red}\n")
    out = tmp_path / "wording.json"
    arguments = [str(tmp_path), "--model", str(tmp_path / "model"), "--sentences", str(tmp_path / "sentences.tsv")]
    monkeypatch.setattr("sys.argv", ["wording.py", *arguments, "--prior", prior, "--json", str(out)])
    wording.main()
    assert "sentences (1): top-1" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["benchmark"] == "wording" and record["settings"]["prior"] == prior
    assert set(record["figures"]) >= {"labels", "held-out keywords", "sentences"}
    assert ("table's top-5" in record["figures"]["labels"]) == (prior == "table")
    assert record["figures"]["held-out keywords"]["words"] == 1 and record["figures"]["labels"]["top-5"] == 1.0
