"""Emoji as concepts: one spelling, groups of variants, the committed split."""

import hashlib
import json
from pathlib import Path

from makeavideo.data.split import load_split
from makeavideo.emoji import concepts


def test_the_committed_split() -> None:
    committed = concepts.split()
    data = json.loads(Path(concepts.__file__).with_name("split.json").read_text())
    assert not committed.held_out_all & committed.held_out_motion
    assert len(committed.held_out_all) == round(0.05 * data["concepts"])
    assert len(committed.held_out_motion) == round(0.10 * data["animated"])
    every = committed.held_out_all | committed.held_out_motion
    assert all(concepts.canonical_code(code) == code and not concepts.has_skin_tone(code) for code in every)
    # Other code may have been trained on this split: changing the file silently must not go unnoticed.
    digest = hashlib.sha256(
        " ".join([*sorted(committed.held_out_all), "|", *sorted(committed.held_out_motion)]).encode()
    )
    assert digest.hexdigest()[:16] == "3669ebbb19e56287"


def test_the_recipes_name_a_copy_of_the_committed_split() -> None:
    """One beside the recipes, where they can be taken elsewhere; one in the package, for the benchmarks."""
    recipes = Path(__file__).parents[1] / "recipes"
    copy = recipes / "emoji" / "split.json"
    assert copy.read_bytes() == Path(concepts.__file__).with_name("split.json").read_bytes()
    assert load_split(copy) == concepts.split()


def test_drawing_a_split_is_stable_and_keeps_groups_whole() -> None:
    people = [f"{person}-200d-{thing:x}" for person in ("1f468", "1f469", "1f9d1") for thing in range(0x1F300, 0x1F340)]
    things = [f"{thing:x}" for thing in range(0x1F500, 0x1F5C8)]
    every, animated = people + things, people[::2] + things[::2]
    drawn = concepts.draw_split(every, animated, seed=7)
    assert drawn == concepts.draw_split(reversed(every), reversed(animated), seed=7)
    assert drawn != concepts.draw_split(every, animated, seed=8)
    assert len(drawn.held_out_all) == round(0.05 * len(every))
    assert len(drawn.held_out_motion) == round(0.10 * len(animated)) and drawn.held_out_motion <= set(animated)
    assert not drawn.held_out_all & drawn.held_out_motion
    held = {concepts.concept_group(code) for code in drawn.held_out_all}
    assert drawn.held_out_all == {code for code in every if concepts.concept_group(code) in held}
