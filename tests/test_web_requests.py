"""Requests of the studio, from and to recipes and stories."""

import json

import numpy as np
import pytest

from makeavideo.errors import UserError
from makeavideo.web.requests import INPUTS, USES, Request, as_written, from_recipe, one_line, written


def test_recipes_make_requests_again_and_are_not_believed(uploads):
    stored = uploads.keep_frame(np.zeros((8, 8, 3), np.uint8), "dot.png")

    class Settings:
        num_frames, fps, size, num_inference_steps, guidance_scale, motion, loop = 16, 12.5, 64, 3, 4.5, 0.5, True

    for use in USES:
        inputs = dict.fromkeys(INPUTS[use], stored)
        wish = Request(
            use, 7, inputs, "red" if use in ("generate", "animate", "extend") else "", num_frames=16, fps=12.5
        )
        recipe = json.loads(json.dumps(wish.recipe(Settings, "emoji", "0" * 16)))
        request, missing = from_recipe(recipe, uploads)
        assert missing == [] and request.inputs == inputs and request.recipe(Settings, "emoji", "0" * 16) == recipe
        assert (request.num_frames, request.fps, request.size, request.guidance_scale) == (16, 12.5, 64, 4.5)
        assert request.motion == 0.5
        recipe.pop("studio", None)
        assert len(from_recipe(recipe, uploads)[1]) == len(inputs)
    sly = [
        None,
        {},
        {"use": "rm"},
        {"use": "generate", "prompt": ["a", 1]},
        {"use": "generate", "prompt": "a", "seed": "1"},
    ]
    sly += [
        {"use": "generate", "prompt": "a", "num_frames": 10**9},
        {"use": "generate", "prompt": "a", "fps": float("nan")},
        {"use": "generate", "prompt": "a", "fps": 10**400},
    ]
    stories = [[["a", 10**400]], [["a", float("nan")]], [["a", "1"]], [["a"]], [["", 1]], [[1, 1]], [["a", 0]]]
    stories += [[["a", 1]] * 21, [["a", 29]] * 2, [["a" * 501, 1]], [["a", True]]]
    sly += [{"use": "generate", "prompt": story} for story in stories]
    sly += [{"use": "animate", "prompt": [["a", 1]]}]
    for recipe in sly:
        with pytest.raises(UserError):
            from_recipe(recipe, uploads)
    request, missing = from_recipe(
        {
            "use": "vary",
            "video": "x",
            "studio": {"video": {"where": "gallery", "name": "../../etc/passwd", "shown": "x"}},
        },
        uploads,
    )
    assert missing == ["x"] and request.inputs == {}


def test_stories_are_read_as_they_are_written(uploads):
    def prompt(text: str):
        return as_written(Request("generate", 1, prompt=text, num_frames=30, fps=10))

    assert (prompt(" a dog \n\n").prompt, prompt("a dog").num_frames) == ("a dog", 30)
    assert (prompt("a dog | 1.5 s").prompt, prompt("a dog|1.5").num_frames) == ("a dog", 15)
    assert prompt("a | b").prompt == "a | b"
    story = prompt("a dog | 2 s\n\na | b |0.5 seconds\r\na rocket")
    assert story.prompt == (("a dog", 2.0), ("a | b", 0.5), ("a rocket", 3.0))
    assert story.checked().seconds == 5.5 and "num_frames" not in story.options()
    assert written(story) == "a dog | 2 s\na | b | 0.5 s\na rocket | 3 s"
    assert one_line(story.prompt) == "a dog, then a | b, then a rocket"
    thirds = as_written(Request("generate", 1, prompt="a\nb", num_frames=76, fps=24))
    tricky = Request("generate", 1, prompt="a | 3 s", num_frames=30, fps=10)
    for request in (story, thirds, tricky, prompt("a dog")):
        again = as_written(
            Request("generate", 1, prompt=written(request), num_frames=request.num_frames, fps=request.fps)
        )
        assert again == request
    for text, problem in (("a | 29\nb | 2", "31 seconds"), ("a | 0\nb", "lasts 0.05 to 30"), ("| 2 s\nb", "empty")):
        with pytest.raises(UserError, match=problem):
            prompt(text).checked()
    recipe = {"use": "generate", "prompt": [["a", 1], ["b", 2.5]], "num_frames": 7, "fps": 8.0, "seed": 3}
    request, missing = from_recipe(recipe, uploads)
    assert (request.prompt, request.seconds, missing) == ((("a", 1.0), ("b", 2.5)), 3.5, [])
    for prompt_of_a_file in (None, 7, [], [[]], [[1, 2]], [None]):
        assert one_line(prompt_of_a_file) == ""


def test_a_size_is_a_number_or_a_shape_and_what_is_given_may_keep_its_own():
    from makeavideo.shapes import Shape, Shapes
    from makeavideo.web.requests import Request, typed
    from makeavideo.web.tab import sizes_shown

    assert typed("size", 64.0) == 64 and typed("size", "256X144") == "256x144" and typed("size", "64") == 64
    assert typed("size", [144, 256]) == "256x144" and typed("size", [64, 64]) == 64
    for wrong in ({}, True, 64.5, "wide", [], [1, 2, 3], [144.5, 256], ["a", "b"]):
        with pytest.raises(UserError):
            typed("size", wrong)
    assert sizes_shown("256x144", (64, 256)) == {"size": 256, "shape": "256x144"}
    assert sizes_shown(64, (64, 256)) == {"size": 64, "shape": ""} and sizes_shown(100, (64, 256))["shape"] == "100"
    plain = Request("generate", 1, prompt="a cat", fit="keep", size=64)
    assert plain.shaped(None, Shapes(Shape(16, 16), (4, 16))) is plain  # of words there is nothing to keep
