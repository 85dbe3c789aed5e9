"""The measures on small real things: clips made here, networks of a few numbers, files on disk."""

import json

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from typer.testing import CliRunner

from makeavideo.cli.evaluate import app
from makeavideo.errors import UserError
from makeavideo.evaluation import features, frechet, measures, videos
from makeavideo.evaluation.results import bootstrap
from makeavideo.media.reader import Video
from makeavideo.media.writer import write_video

COLOURS = np.array([[220, 40, 40], [40, 160, 60], [50, 70, 210], [230, 180, 30], [150, 60, 180], [30, 170, 180]])


def moving_clip(seed: int, frames: int = 16, size: int = 64) -> np.ndarray:
    """Two coloured discs that move over white, uint8 (frames, size, size, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    clip = np.full((frames, size, size, 3), 255, np.uint8)
    for colour in COLOURS[rng.choice(len(COLOURS), 2, replace=False)]:
        centre, speed = rng.uniform(0.3, 0.7, 2) * size, rng.normal(0, 0.02, 2) * size
        radius, phase = rng.uniform(0.1, 0.2) * size, rng.uniform(0, 6)
        for t in range(frames):
            cy, cx = centre + speed * t + 2 * np.sin(t / 2 + phase)
            clip[t][(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = colour
    return clip


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    """uint8 (96, 16, 64, 64, 3)."""
    return np.stack([moving_clip(seed) for seed in range(96)])


@pytest.fixture(scope="module")
def folders(tmp_path_factory, clips):
    """Two folders of six videos each, of 24 frames of 32 pixels, with their prompts."""
    root = tmp_path_factory.mktemp("videos")
    for name, first in (("real", 100), ("made", 200)):
        for number in range(6):
            recipe = {"prompt": f"disc {number}"}
            write_video(root / name / f"{number}.mp4", moving_clip(first + number, 24, 32), 24, recipe)
    return root


class TinyI3D(nn.Module):
    """The call of the public i3d_torchscript.pt."""

    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False):
        assert not rescale and not resize and return_features
        assert x.size(1) == 3 and x.size(3) == 224 and x.size(4) == 224
        assert float(x.min()) >= -1 and float(x.max()) <= 1
        return torch.cat([x.mean((2, 3, 4)), (x[:, :, 1:] - x[:, :, :-1]).abs().mean((2, 3, 4))], 1)


class TinyInception(nn.Module):
    """The call of the public inception-2015-12-05.pt."""

    def forward(self, x: torch.Tensor, return_features: bool = False, no_output_bias: bool = False):
        assert x.dtype == torch.uint8
        pooled = torch.nn.functional.adaptive_avg_pool2d(x.float(), 2).flatten(1) / 255
        return pooled if return_features else (8 * pooled).softmax(1)


class TinyC3D(nn.Module):
    def forward(self, x: torch.Tensor):
        assert x.size(1) == 3 and x.size(3) == 112
        return torch.nn.functional.adaptive_avg_pool3d(x, 2).flatten(1) * 4


def scripted(module: nn.Module, path):
    torch.jit.script(module).save(str(path))
    return path


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Small networks of every kind, saved as a user would have them."""
    from transformers import (
        CLIPConfig,
        CLIPModel,
        VideoMAEConfig,
        VideoMAEForVideoClassification,
        ViTConfig,
        ViTForImageClassification,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    root = tmp_path_factory.mktemp("networks")
    scripted(TinyI3D(), root / "i3d.pt")
    scripted(TinyInception(), root / "inception.pt")
    scripted(TinyC3D(), root / "c3d.pt")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    picture = {"image_size": 32, "patch_size": 8}
    VideoMAEForVideoClassification(VideoMAEConfig(**size, **picture)).save_pretrained(root / "videomae")
    VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        root / "videomae"
    )
    ViTForImageClassification(ViTConfig(**size, **picture, num_labels=5)).save_pretrained(root / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(root / "vit")
    clip_folder(root / "clip", CLIPModel, CLIPConfig, CLIPImageProcessorPil, size, picture)
    return root


def clip_folder(folder, model, config, processor, size, picture) -> None:
    from transformers import BertTokenizerFast

    from conftest import WORDS

    folder.mkdir()
    words = [*WORDS, "disc", *"012345"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    tokens = {"vocab_size": len(words), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = {**size, **tokens, "max_position_embeddings": 12}
    model(config(text_config=text, vision_config={**size, **picture}, projection_dim=8)).save_pretrained(folder)
    processor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


# -- the Fréchet distance ---------------------------------------------------------------------------------------------


def gaussian_of(items: np.ndarray, parts: int = 1) -> frechet.Gaussian:
    found = frechet.Gaussian()
    for part in np.array_split(items, parts):
        found.add(part)
    return found


def correlated(count: int, dim: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dim, dim)) + seed * 0.05 * rng.normal(size=(dim, dim))
    return rng.normal(size=(count, dim)) @ mixing + shift


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize(("count", "dim"), [(400, 24), (40, 64)])
def test_the_distance_is_scipys_closed_form_and_torchmetrics(count, dim, offset):
    from torchmetrics.image.fid import FrechetInceptionDistance

    one, other = correlated(count, dim, 1, offset), correlated(count + 7, dim, 2, offset + 0.3)
    ours = frechet.frechet_distance(gaussian_of(one, 5), gaussian_of(other, 3))
    s1, s2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    mean = np.square(one.mean(0) - other.mean(0)).sum()
    closed = mean + np.trace(s1 + s2 - 2 * np.real(scipy.linalg.sqrtm(s1 @ s2)))
    metric = FrechetInceptionDistance(measures.Precomputed(dim)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(one), real=True)
    metric.update(torch.from_numpy(other), real=False)
    assert ours == pytest.approx(frechet.distance_of_features(one, other), rel=1e-6)
    assert ours == pytest.approx(float(metric.compute()), rel=1e-4)
    # with fewer clips than dimensions sqrtm's root of a singular matrix is itself only good to a few digits
    assert ours == pytest.approx(closed, rel=1e-4)


def test_streaming_does_not_depend_on_the_parts():
    items = correlated(100, 8, 1, 1e4)
    whole, parts = gaussian_of(items), gaussian_of(items, 9)
    np.testing.assert_allclose(parts.mean, items.mean(0), rtol=1e-12)
    np.testing.assert_allclose(parts.covariance, np.cov(items, rowvar=False), rtol=1e-8)
    np.testing.assert_allclose(whole.covariance, parts.covariance, rtol=1e-8)


def test_one_clip_is_refused():
    with pytest.raises(UserError, match="at least two"):
        frechet.frechet_distance(gaussian_of(np.zeros((1, 3))), gaussian_of(np.zeros((5, 3))))


def blurred(clips: np.ndarray, strength: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(clips, (0, 0, strength, strength, 0)) if strength else clips


def noisy(clips: np.ndarray, strength: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, strength, clips.shape)
    return (clips + noise).clip(0, 255).astype(np.uint8)


def shuffled(clips: np.ndarray, share: float) -> np.ndarray:
    """Some of the frames change places."""
    out, rng = clips.copy(), np.random.default_rng(0)
    for clip in out:
        chosen = rng.choice(16, round(16 * share), replace=False)
        clip[chosen] = clip[rng.permutation(chosen)]
    return out


def frozen(clips: np.ndarray, share: float) -> np.ndarray:
    """The last part of each clip stands still."""
    out, kept = clips.copy(), round(16 * (1 - share))
    out[:, kept:] = out[:, kept - 1 : kept]
    return out


@pytest.mark.parametrize(
    ("damage", "strengths"),
    [
        (blurred, (0.0, 0.7, 1.5, 3.0)),
        (noisy, (0.0, 8.0, 20.0, 50.0)),
        (shuffled, (0.0, 0.3, 0.6, 1.0)),
        (frozen, (0.0, 0.4, 0.7, 0.93)),
    ],
)
def test_the_distance_grows_with_the_damage(clips, damage, strengths):
    network = features.Emoji()
    sound = network(clips[:48])
    found = [frechet.distance_of_features(sound, network(damage(clips[48:], strength))) for strength in strengths]
    assert found == sorted(found), found
    # two halves of the same set: the floor, which every damage is well above in the end
    assert found[-1] > 1.5 * found[0]


def test_the_bootstrap_is_seeded_and_centred():
    one, other = correlated(60, 6, 1), correlated(60, 6, 2)

    def again(a, b):
        return frechet.distance_of_features(one[a], other[b])

    value = frechet.distance_of_features(one, other)
    low, high = bootstrap(again, [60, 60], 50, 3, centre=value)
    assert low < value < high
    assert bootstrap(again, [60, 60], 50, 3, centre=value) == (low, high)
    assert bootstrap(again, [60, 60], 50, 4, centre=value) != (low, high)
    assert bootstrap(again, [60, 60], 0, 3) is None


# -- which frames -----------------------------------------------------------------------------------------------------


def numbered(count: int, fps: float, shape=(4, 6)) -> Video:
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, *shape, 3), np.uint8)
    return Video(frames, np.arange(count) / fps, fps)


def frames_taken(video: Video, start: float = 0.0, **settings) -> list[int] | None:
    clip = videos.cut(video, videos.ClipProtocol("test", **settings), start)
    return None if clip is None else clip[:, 0, 0, 0].tolist()


def test_stride_start_and_length():
    video = numbered(20, 24)
    assert frames_taken(video, num_frames=4, stride=3) == [0, 3, 6, 9]
    assert frames_taken(video, 0.999, num_frames=4, stride=3) == [10, 13, 16, 19]
    assert frames_taken(video, num_frames=16, stride=2) is None
    assert frames_taken(video, num_frames=5, stride=6, short="loop") == [0, 6, 12, 18, 4]


def test_frames_at_a_rate():
    assert frames_taken(numbered(48, 24), num_frames=4, fps=8.0) == [0, 3, 6, 9]
    # a file of exactly the rate and length gives its own frames, in spite of rounded times
    video = numbered(16, 8)
    rounded = video._replace(times=video.times.round(2))
    assert frames_taken(rounded, 0.9, num_frames=16, fps=8.0) == list(range(16))
    assert frames_taken(numbered(8, 8), num_frames=12, fps=8.0) is None
    assert frames_taken(numbered(8, 8), num_frames=12, fps=8.0, short="loop") == [*range(8), *range(4)]


def test_crop_and_unknown_protocol():
    protocol = videos.ClipProtocol("test", num_frames=2, resize="crop")
    assert videos.cut(numbered(3, 8), protocol, 0.0).shape == (2, 4, 4, 3)
    assert videos.protocol_named("styleganv", stride=2, fps=None).stride == 2
    with pytest.raises(UserError, match="choose one of"):
        videos.protocol_named("mine")
    with pytest.raises(UserError, match="positive"):
        videos.protocol_named("original", num_frames=0)


def test_videos_of_several_sizes_and_short_ones_go_through(networks):
    shapes = [(1, 4, 8, 8, 3), (1, 4, 8, 8, 3), None, (1, 4, 10, 6, 3), (1, 4, 8, 8, 3)]
    items = [None if shape is None else np.full(shape, 9, np.uint8) for shape in shapes]
    found = frechet.features_of(iter(items), features.I3D(networks / "i3d.pt"), batch_size=2)
    assert (found.gaussian.count, found.skipped, found.kept.shape) == (4, 1, (4, 1, 6))
    with pytest.raises(UserError, match="long enough"):
        frechet.features_of(iter([None]), features.I3D(networks / "i3d.pt"))


def test_past_the_limit_only_sums_stay(monkeypatch):
    monkeypatch.setattr(frechet, "KEPT_BYTES", 100)
    one, other = frechet.FeatureSet(), frechet.FeatureSet()
    for found, seed in ((one, 1), (other, 2)):
        for part in np.array_split(correlated(40, 4, seed), 4):
            found.add(part[:, None])
    value = frechet.compare(one, other, 10, 0)
    assert one.kept is None and value.interval is None and "no interval" in value.note
    assert value.value == pytest.approx(frechet.distance_of_features(correlated(40, 4, 1), correlated(40, 4, 2)))


def test_captions_from_a_table_and_from_recipes(folders, tmp_path):
    files = videos.list_videos(folders / "made")
    assert videos.captions_of(files) == [f"disc {n}" for n in range(6)]
    table = tmp_path / "captions.csv"
    table.write_text("file,caption\n" + "".join(f"{n}.mp4,a cat {n}\n" for n in range(6)))
    assert videos.captions_of(files, table) == [f"a cat {n}" for n in range(6)]
    table.write_text("file,caption\n0.mp4,a cat\n")
    with pytest.raises(UserError, match=r"1\.mp4 has no caption"):
        videos.captions_of(files, table)
    table.write_text("name,caption\n0,a\n")
    with pytest.raises(UserError, match="columns file and caption"):
        videos.captions_of(files, table)


def test_folders_of_pictures_are_videos_and_empty_folders_are_refused(tmp_path):
    write_video(f"{tmp_path}/set/one/", moving_clip(1, 3, 16), 8)
    assert [path.name for path in videos.list_videos(tmp_path / "set")] == ["one"]
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "empty", "no video"), (tmp_path / "none", "no folder")):
        with pytest.raises(UserError, match=message):
            videos.list_videos(folder)


# -- networks ---------------------------------------------------------------------------------------------------------


def test_video_networks(networks, clips):
    for spec, name, dim in (
        (networks / "i3d.pt", "FVD", 6),
        (networks / "videomae", "FVD, VideoMAE features", 16),
        ("emoji", "Fréchet distance, emoji features", 128),
    ):
        network = features.video_features(spec)
        found = network(clips[:3])
        assert (network.name, found.shape, found.dtype) == (name, (3, dim), np.float32)
        assert len(network.weights) == 16
        np.testing.assert_allclose(network(clips[1:2])[0], found[1], atol=1e-4)


def test_image_networks(networks, clips):
    for spec, name, dim in (("inception.pt", "FID", 12), ("vit", "Fréchet distance, vit features", 16)):
        network = features.image_features(networks / spec)
        found = network(clips[0, :, None])
        assert (network.name, found.shape) == (name, (16, dim))
        np.testing.assert_allclose(network(clips[:1])[0], found.mean(0), atol=1e-5)


def test_what_is_no_network_is_refused(networks, tmp_path, clips):
    (tmp_path / "text.pt").write_text("no network")
    for call, spec, message in (
        (features.video_features, tmp_path / "none.pt", "no TorchScript file"),
        (features.video_features, tmp_path / "text.pt", "cannot be loaded as TorchScript"),
        (features.video_features, networks / "vit", "no video features"),
        (features.video_features, tmp_path, "no network"),
        (features.image_features, tmp_path, "no image model"),
        (features.text_image_network, networks / "vit", "no text side"),
    ):
        with pytest.raises(UserError, match=message):
            call(spec)
    with pytest.raises(UserError, match="16 frames"):
        features.video_features(networks / "videomae")(clips[:1, :8])
    with pytest.raises(UserError, match="multiple of 4"):
        features.Emoji()(clips[:1, :15])


# -- measures ---------------------------------------------------------------------------------------------------------


def test_fvd_of_folders(networks, folders):
    protocol = videos.protocol_named("styleganv")
    result = frechet.fvd(folders / "real", folders / "made", str(networks / "i3d.pt"), protocol, seed=1, draws=20)
    found = result.as_dict()
    assert found["measure"] == "FVD"
    assert found["counts"]["real clips"] == found["counts"]["made clips"] == 6
    assert found["network"]["weights"] == features.hash_of(networks / "i3d.pt")
    low, high = found["values"]["distance"]["interval"]
    assert low < found["values"]["distance"]["value"] < high
    same = frechet.fvd(folders / "real", folders / "made", str(networks / "i3d.pt"), protocol, seed=1, draws=20)
    assert same.as_dict() == found
    itself = frechet.fvd(folders / "made", folders / "made", "emoji", videos.ORIGINAL, draws=0)
    assert itself.values["distance"].value == pytest.approx(0, abs=1e-6)
    assert itself.measure == "Fréchet distance, emoji features"


def test_fid_and_inception_score(networks, folders):
    result = measures.fid(folders / "real", folders / "made", networks / "inception.pt", frames=4, draws=10)
    by_hand = []
    for name in ("real", "made"):
        network = features.Inception(networks / "inception.pt")
        shots = [p for _, p in measures.frames_of(folders / name, 4, None, 0, None, "")]
        by_hand.append(network(np.concatenate(shots)[:, None]))
    expected = frechet.distance_of_features(*by_hand)
    assert result.measure == "FID" and result.counts["real frames"] == 24
    assert result.values["distance"].value == pytest.approx(expected, rel=1e-4)
    for spec, clips in (("inception.pt", False), ("vit", False), ("c3d.pt", True), ("emoji", False)):
        spec = spec if spec == "emoji" else networks / spec
        score = measures.inception_score(folders / "made", spec, clips, frames=4, splits=2, draws=5)
        assert score.values["score"].value >= 1
        again = measures.inception_score(folders / "made", spec, clips, frames=4, splits=2, draws=5)
        assert again.as_dict() == score.as_dict()


def test_inception_score_is_its_definition():
    logits = torch.from_numpy(correlated(50, 7, 1))
    p = logits.softmax(1)
    expected = (p * (p.log() - p.mean(0).log())).sum(1).mean().exp()
    assert measures.score_of_logits(logits, 1, 0)[0] == pytest.approx(float(expected), rel=1e-6)


class Planted(features.TextImageNetwork):
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
    result = measures.clipsim(tmp_path, Planted(), frames=2)
    assert result.values["cosine"].value == pytest.approx(5 / 6)
    found = measures.retrieval(tmp_path, Planted(), frames=2, draws=50)
    # for "disc 0" the wrong video is as near as its own, so it comes first: ties count against
    assert found.values["R@1"].value == pytest.approx(4 / 6)
    assert found.values["median rank"].value == 1
    low, high = found.values["R@1"].interval
    assert 0 <= low < high <= 1


def test_the_same_caption_is_equally_right():
    similarity = np.array([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.8, 0.7, 0.6]])
    assert measures.ranks_of(similarity, np.array([0, 0, 1])).tolist() == [1, 1, 3]


def test_clip_folder(networks, folders):
    result = measures.clipsim(folders / "made", networks / "clip", frames=3, draws=10)
    assert -1 <= result.values["cosine"].value <= 1
    assert result.counts == {"videos": 6, "frames": 18}
    assert result.network["name"] == "clip clip"
    found = measures.retrieval(folders / "made", networks / "clip", ["red cat"] * 6, frames=3)
    assert found.values["R@1"].value == 1 and found.counts["different captions"] == 1
    with pytest.raises(UserError, match="2 captions for 6"):
        measures.clipsim(folders / "made", networks / "clip", ["a", "b"])


def test_motion_of_a_square_that_is_known():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    still = np.full((9, 96, 96, 3), 200, np.uint8)
    moving = still.copy()
    for t in range(9):
        moving[t, 30:54, 10 + 2 * t : 34 + 2 * t] = texture
    found = measures.motion_of(moving)
    assert measures.motion_of(still) == {
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
    faster = measures.motion_of(moving[::2])
    assert faster["flow"] > 1.5 * found["flow"]
    assert measures.motion_of(np.concatenate([moving, moving[:1]]))["loop gap"] == 0 < found["loop gap"]


def test_flicker_is_told_from_motion():
    still = np.full((9, 64, 64, 3), 200, np.uint8)
    light = still.copy()
    light[::2] -= 4  # the whole picture blinks by four levels, and nothing moves
    found = measures.motion_of(light)
    assert (found["flicker"], found["static area"], found["flow"]) == (4, 100, 0)


def test_motion_of_a_folder(folders, tmp_path):
    result = measures.motion(folders / "made", draws=50)
    assert set(result.values) == {"frame difference", "flow", "static area", "flicker", "loop gap"}
    assert result.counts["videos"] == 6 and result.network is None
    write_video(f"{tmp_path}/one/", moving_clip(1, 1, 16), 8)
    with pytest.raises(UserError, match="two frames"):
        measures.motion(tmp_path)


# -- command line -----------------------------------------------------------------------------------------------------


def run(*arguments) -> dict:
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


def test_commands(networks, folders, tmp_path):
    real, made = folders / "real", folders / "made"
    output = tmp_path / "new" / "fvd.json"
    found = run("fvd", real, made, "--protocol", "original", "--frames", "8", "--bootstrap", 5, "-o", output)
    assert found == json.loads(output.read_text())
    assert found["settings"]["protocol"]["num_frames"] == 8
    assert run("fid", real, made, "--network", networks / "inception.pt", "--frames", 2, "--bootstrap", 3)
    assert run("is", made, "--network", networks / "c3d.pt", "--clips", "--splits", 1, "--bootstrap", 0)
    assert run("clipsim", made, "--clip", networks / "clip", "--frames", 2)["measure"] == "CLIPSIM"
    assert run("retrieval", made, "--clip", networks / "clip", "--frames", 2)["measure"] == "text-video retrieval"
    assert run("motion", made, "--max-videos", 3)["counts"]["videos"] == 3


def test_a_missing_extra_is_one_sentence(monkeypatch, folders):
    import sys

    for name in ("measures", "frechet", "videos"):
        monkeypatch.delitem(sys.modules, f"makeavideo.evaluation.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match=r"pip install \"makeavideo\[evaluation\]\""):
        CliRunner().invoke(app, ["motion", str(folders / "made")], catch_exceptions=False)


def test_nothing_imports_torchvision():
    import subprocess
    import sys

    code = (
        "import sys; import makeavideo.cli.evaluate, makeavideo.evaluation.protocols; "
        "from torchmetrics.image.fid import FrechetInceptionDistance; "
        "assert 'torchvision' not in sys.modules and 'torch_fidelity' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
