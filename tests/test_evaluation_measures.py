"""The measures on frames, on text and on motion, against what is known."""

import numpy as np
import pytest
import torch

from makeavideo.errors import UserError
from makeavideo.evaluation import (
    classifiers,
    features,
    frechet,
    image_measures,
    motion,
    text_image,
    text_measures,
    videos,
)
from makeavideo.media.writer import write_video
from tiny_evaluation import correlated, moving_clip


def test_fid_and_inception_score(networks, folders):
    inception = features.Inception(networks / "inception.pt", trust=True)
    result = image_measures.fid(folders / "real", folders / "made", inception, frames=4, draws=10)
    by_hand = []
    for name in ("real", "made"):
        shots = [p for _, p in videos.frames_of(folders / name, 4, None, 0, None, "")]
        by_hand.append(inception(np.concatenate(shots)[:, None]))
    expected = frechet.distance_of_features(*by_hand)
    assert result.measure == "FID" and result.counts["real frames"] == 24
    assert result.values["distance"].value == pytest.approx(expected, rel=1e-4)
    for spec, clips in (("inception.pt", False), ("vit", False), ("c3d.pt", True), ("emoji", False)):
        spec = spec if spec == "emoji" else networks / spec
        network, clips = classifiers.classifier(spec, clips, trust=True)
        score = image_measures.inception_score(folders / "made", network, clips, frames=4, splits=2, draws=5)
        assert score.values["score"].value >= 1
        again = image_measures.inception_score(folders / "made", network, clips, frames=4, splits=2, draws=5)
        assert again.as_dict() == score.as_dict()


def test_inception_score_is_its_definition():
    logits = torch.from_numpy(correlated(50, 7, 1))
    p = logits.softmax(1)
    expected = (p * (p.log() - p.mean(0).log())).sum(1).mean().exp()
    assert image_measures.score_of_logits(logits, 1, 0)[0] == pytest.approx(float(expected), rel=1e-6)


class Planted(text_image.TextImageNetwork):
    """Text "disc 3" and frames whose red says 3 are the same unit vector."""

    name, weights = "planted", "0" * 16

    def embed_texts(self, texts):
        return np.eye(8, dtype=np.float32)[[int(text[-1]) for text in texts]]

    def embed_frames(self, frames):
        return np.eye(8, dtype=np.float32)[frames[:, 0, 0, 0] // 32]


def test_clipsim_and_retrieval_find_what_was_planted(tmp_path):
    for number in range(6):
        shown = number if number != 5 else 0  # the last video shows the wrong thing
        frames = np.full((3, 16, 16, 3), 32 * shown + 16, np.uint8)
        write_video(f"{tmp_path}/{number}/", frames, 8, {"prompt": f"disc {number}"})
    result = text_measures.clipsim(tmp_path, Planted(), frames=2)
    assert result.values["cosine"].value == pytest.approx(5 / 6)
    found = text_measures.retrieval(tmp_path, Planted(), frames=2, draws=50)
    # for "disc 0" the wrong video is as near as its own, so it comes first: ties count against
    assert found.values["R@1"].value == pytest.approx(4 / 6)
    assert found.values["median rank"].value == 1
    low, high = found.values["R@1"].interval
    assert 0 <= low < high <= 1


def test_the_same_caption_is_equally_right():
    similarity = np.array([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.8, 0.7, 0.6]])
    assert text_measures.ranks_of(similarity, np.array([0, 0, 1])).tolist() == [1, 1, 3]


def test_clip_folder(networks, folders):
    result = text_measures.clipsim(folders / "made", networks / "clip", frames=3, draws=10)
    assert -1 <= result.values["cosine"].value <= 1
    assert result.counts == {"videos": 6, "frames": 18}
    assert result.network["name"] == "clip clip"
    found = text_measures.retrieval(folders / "made", networks / "clip", ["red cat"] * 6, frames=3)
    assert found.values["R@1"].value == 1 and found.counts["different captions"] == 1
    with pytest.raises(UserError, match="2 captions for 6"):
        text_measures.clipsim(folders / "made", networks / "clip", ["a", "b"])


def test_motion_of_a_square_that_is_known():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    still = np.full((9, 96, 96, 3), 200, np.uint8)
    moving = still.copy()
    for t in range(9):
        moving[t, 30:54, 10 + 2 * t : 34 + 2 * t] = texture
    found = motion.motion_of(moving)
    assert motion.motion_of(still) == {
        "frame difference": 0,
        "flow": 0,
        "static area": 100,
        "flicker": 0,
        "loop gap": 0,
    }
    # the square is a sixteenth of the frame and moves 2 of its 96 pixels a frame
    assert found["flow"] == pytest.approx(100 * 2 / 96 * (24 / 96) ** 2, rel=0.7)
    # it sweeps over 40 x 24 pixels, and nothing else changes
    assert found["static area"] == pytest.approx(100 - 100 * 24 * 40 / 96**2, abs=1)
    assert found["flicker"] < 0.5 < found["frame difference"]
    faster = motion.motion_of(moving[::2])
    assert faster["flow"] > 1.5 * found["flow"]
    assert motion.motion_of(np.concatenate([moving, moving[:1]]))["loop gap"] == 0 < found["loop gap"]


def test_flicker_is_told_from_motion():
    still = np.full((9, 64, 64, 3), 200, np.uint8)
    light = still.copy()
    light[::2] -= 4  # the whole picture blinks by four levels, and nothing moves
    found = motion.motion_of(light)
    assert (found["flicker"], found["static area"], found["flow"]) == (4, 100, 0)


def test_motion_of_a_folder(folders, tmp_path):
    result = motion.motion(folders / "made", draws=50)
    assert set(result.values) == {"frame difference", "flow", "static area", "flicker", "loop gap"}
    assert result.counts["videos"] == 6 and result.network is None
    write_video(tmp_path / "one.mp4", moving_clip(1, 1, 16), 8)
    with pytest.raises(UserError, match="two frames"):
        motion.motion(tmp_path)
