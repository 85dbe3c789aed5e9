"""Feature networks of every kind, called as the public ones are."""

import sys
from functools import partial

import numpy as np
import pytest

from makeavideo.errors import UserError
from makeavideo.evaluation import classifiers, features, text_image


def test_video_networks(networks, clips):
    for spec, name, dim in (
        (networks / "i3d.pt", "FVD", 6),
        (networks / "videomae", "FVD, VideoMAE features", 16),
        ("emoji", "Fréchet distance, emoji features", 128),
    ):
        network = features.video_features(spec, trust=True)
        found = network(clips[:3])
        assert (network.name, found.shape, found.dtype) == (name, (3, dim), np.float32)
        assert len(network.weights) == 16
        np.testing.assert_allclose(network(clips[1:2])[0], found[1], atol=1e-4)


def test_image_networks(networks, clips):
    for spec, name, dim in (("inception.pt", "FID", 12), ("vit", "Fréchet distance, vit features", 16)):
        network = features.image_features(networks / spec, trust=True)
        found = network(clips[0, :, None])
        assert (network.name, found.shape) == (name, (16, dim))
        np.testing.assert_allclose(network(clips[:1])[0], found.mean(0), atol=1e-5)


def test_a_program_runs_only_if_it_is_trusted(networks, monkeypatch):
    monkeypatch.setattr("torch.jit.load", None)  # nothing is read before
    for call, file in (
        (features.video_features, "i3d.pt"),
        (features.image_features, "inception.pt"),
        (classifiers.classifier, "inception.pt"),
        (partial(classifiers.classifier, clips=True), "c3d.pt"),
    ):
        with pytest.raises(UserError, match=rf"{file} is a program \(TorchScript\).*add --trust"):
            call(networks / file)


def test_what_is_no_network_is_refused(networks, tmp_path, clips):
    (tmp_path / "text.pt").write_text("no network")
    for call, spec, message in (
        (features.video_features, tmp_path / "none.pt", "no TorchScript file"),
        (partial(features.video_features, trust=True), tmp_path / "text.pt", "cannot be loaded as TorchScript"),
        (features.video_features, networks / "vit", "no video features"),
        (features.video_features, tmp_path, "no network"),
        (features.image_features, tmp_path, "no image model"),
        (text_image.text_image_network, networks / "vit", "no text side"),
    ):
        with pytest.raises(UserError, match=message):
            call(spec)
    with pytest.raises(UserError, match="16 frames"):
        features.video_features(networks / "videomae")(clips[:1, :8])
    with pytest.raises(UserError, match="multiple of 4"):
        features.Emoji()(clips[:1, :15])


def test_nothing_imports_torchvision():
    """Nor does torchmetrics, whose FID does where it is to fetch a network by itself."""
    from torchmetrics.image.fid import FrechetInceptionDistance  # noqa: F401

    assert not {"torchvision", "torch_fidelity"} & sys.modules.keys()
