"""The 300 prompts: as many as promised, all different, varied."""

import pytest

from makeavideo.encoders import embed_text, load_text_encoder
from makeavideo.errors import UserError
from makeavideo.votes.prompts import CATEGORIES, load_prompts

# Two ways to say the same thing are at a cosine of 0.70 or more for this encoder (see the control below); two
# prompts of the list drawn at random are at 0.13, with a standard deviation of 0.09.
NEAR_DUPLICATE = 0.68

SAME_THING_TWICE = [
    ("a red apple", "a crimson apple"),
    ("a surfer riding a wave", "a man surfing on a big wave"),
    ("a volcano erupting", "an erupting volcano at night"),
    ("a loaf rising and browning in the oven, time lapse", "time lapse of bread rising in the oven"),
]


def test_counts():
    prompts = load_prompts()
    assert len(prompts) == 300
    for category in CATEGORIES:
        assert len(load_prompts(category)) == 60
        assert len(load_prompts(category, emoji_only=True)) == 10
    assert [one for one in prompts if one.emoji] == load_prompts(emoji_only=True)
    assert {one.category for one in prompts} == set(CATEGORIES)


def test_unknown_category():
    with pytest.raises(UserError, match="no category 'cars'"):
        load_prompts("cars")


def test_ids_and_texts_are_unique_and_clean():
    prompts = load_prompts()
    assert len({one.id for one in prompts}) == 300
    assert len({one.prompt.casefold() for one in prompts}) == 300
    for one in prompts:
        assert one.prompt == " ".join(one.prompt.split())
        assert all(character.isalnum() or character in "-" for character in one.id)


def test_lengths_spread():
    lengths = [len(one.prompt.split()) for one in load_prompts()]
    assert min(lengths) == 2 and 22 <= max(lengths) <= 25
    for low, high in ((2, 5), (6, 10), (11, 15), (16, 25)):
        assert sum(low <= length <= high for length in lengths) >= 30


def test_no_two_prompts_mean_the_same():
    tokenizer, encoder = load_text_encoder()
    embeds = embed_text(tokenizer, encoder, [one.prompt for one in load_prompts()])
    cosines = (embeds @ embeds.T).fill_diagonal_(0)
    assert cosines.max() < NEAR_DUPLICATE

    first, second = (embed_text(tokenizer, encoder, list(side)) for side in zip(*SAME_THING_TWICE, strict=True))
    assert (first * second).sum(1).min() > NEAR_DUPLICATE
