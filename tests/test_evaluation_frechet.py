"""The Fréchet distance: against SciPy's closed form and torchmetrics, under damage, with its interval."""

import numpy as np
import pytest
import scipy.linalg
import torch

from makeavideo.errors import UserError
from makeavideo.evaluation import features, frechet, image_measures, videos
from makeavideo.evaluation.results import bootstrap
from tiny_evaluation import correlated


def gaussian_of(items: np.ndarray, parts: int = 1) -> frechet.Gaussian:
    found = frechet.Gaussian()
    for part in np.array_split(items, parts):
        found.add(part)
    return found


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize(("count", "dim"), [(400, 24), (40, 64)])
def test_the_distance_is_scipys_closed_form_and_torchmetrics(count, dim, offset):
    from torchmetrics.image.fid import FrechetInceptionDistance

    one, other = correlated(count, dim, 1, offset), correlated(count + 7, dim, 2, offset + 0.3)
    ours = frechet.frechet_distance(gaussian_of(one, 5), gaussian_of(other, 3))
    s1, s2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    mean = np.square(one.mean(0) - other.mean(0)).sum()
    closed = mean + np.trace(s1 + s2 - 2 * np.real(scipy.linalg.sqrtm(s1 @ s2)))
    metric = FrechetInceptionDistance(image_measures.Precomputed(dim)).set_dtype(torch.float64)
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


@pytest.fixture(scope="module")
def sound(clips) -> tuple[np.ndarray, np.ndarray]:
    """Features of the clips in two halves."""
    network = features.Emoji()
    return network(clips[:48]), network(clips[48:])


def blurred(clips: np.ndarray, strength: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(clips, (0, 0, strength, strength, 0))


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
        (blurred, (0.7, 1.5, 3.0)),
        (noisy, (8.0, 20.0, 50.0)),
        (shuffled, (0.3, 0.6, 1.0)),
        (frozen, (0.4, 0.7, 0.93)),
    ],
)
def test_the_distance_grows_with_the_damage(clips, sound, damage, strengths):
    network, (one, other) = features.Emoji(), sound
    found = [frechet.distance_of_features(one, network(damage(clips[48:], strength))) for strength in strengths]
    found.insert(0, frechet.distance_of_features(one, other))
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


def test_videos_of_several_sizes_and_short_ones_go_through(networks):
    shapes = [(1, 4, 8, 8, 3), (1, 4, 8, 8, 3), None, (1, 4, 10, 6, 3), (1, 4, 8, 8, 3)]
    items = [None if shape is None else np.full(shape, 9, np.uint8) for shape in shapes]
    found = frechet.features_of(iter(items), features.I3D(networks / "i3d.pt", trust=True), batch_size=2)
    assert (found.gaussian.count, found.skipped, found.kept.shape) == (4, 1, (4, 1, 6))
    with pytest.raises(UserError, match="long enough"):
        frechet.features_of(iter([None]), features.I3D(networks / "i3d.pt", trust=True))


def test_past_the_limit_only_sums_stay(monkeypatch):
    monkeypatch.setattr(frechet, "KEPT_BYTES", 100)
    one, other = frechet.FeatureSet(), frechet.FeatureSet()
    for found, seed in ((one, 1), (other, 2)):
        for part in np.array_split(correlated(40, 4, seed), 4):
            found.add(part[:, None])
    value = frechet.compare(one, other, 10, 0)
    assert one.kept is None and value.interval is None and "no interval" in value.note
    assert value.value == pytest.approx(frechet.distance_of_features(correlated(40, 4, 1), correlated(40, 4, 2)))


def test_fvd_of_folders(networks, folders):
    protocol = videos.protocol_named("styleganv")
    network = features.video_features(networks / "i3d.pt", trust=True)
    result = frechet.fvd(folders / "real", folders / "made", network, protocol, seed=1, draws=20)
    found = result.as_dict()
    assert found["measure"] == "FVD"
    assert found["counts"]["real clips"] == found["counts"]["made clips"] == 6
    assert found["network"]["weights"] == features.hash_of(networks / "i3d.pt")
    low, high = found["values"]["distance"]["interval"]
    assert low < found["values"]["distance"]["value"] < high
    same = frechet.fvd(folders / "real", folders / "made", network, protocol, seed=1, draws=20)
    assert same.as_dict() == found
    itself = frechet.fvd(folders / "made", folders / "made", "emoji", videos.ORIGINAL, draws=0)
    assert itself.values["distance"].value == pytest.approx(0, abs=1e-6)
    assert itself.measure == "Fréchet distance, emoji features"
