"""Captioned pictures, in folders and in webdataset shards."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from makeavideo import UserError
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from tiny_clips import picture


def test_captions_from_text_and_json(tmp_path):
    picture(tmp_path / "one.png", caption="a red square\n\n  red   thing \n")
    picture(tmp_path / "sub.jpg", caption=None)
    (tmp_path / "sub.json").write_text(json.dumps({"caption": "just one", "width": 3}))
    (tmp_path / "deep").mkdir()
    picture(tmp_path / "deep" / "two.webp", caption="from text")
    (tmp_path / "deep" / "two.json").write_text(json.dumps({"captions": ["from json", "from text"]}))
    images = CaptionedImages(tmp_path, 32)
    by_key = {key: images.captions(i) for i, key in enumerate(images.keys)}
    assert by_key == {
        "one": ["a red square", "red thing"],
        "sub": ["just one"],
        "deep/two": ["from text", "from json"],
    }
    sample = images[images.keys.index("one"), 7]
    assert sample["pixels"].shape == (1, 3, 32, 32) and sample["pixels"].dtype == torch.float32
    assert sample["skipped"] == [] and sample["key"] == "one"
    assert {images[images.keys.index("one"), s]["caption"] for s in range(20)} == {"a red square", "red thing"}


def test_include_is_a_set_or_a_function(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    assert CaptionedImages(tmp_path, 8, include={"a", "c", "z"}).keys == ["a", "c"]
    assert CaptionedImages(tmp_path, 8, include=lambda key: key != "a").keys == ["b", "c"]
    with pytest.raises(UserError, match="include"):
        CaptionedImages(tmp_path, 8, include={"z"})


def test_exif_orientation_and_unusual_modes(tmp_path):
    upright = np.zeros((40, 40, 3), np.uint8)
    upright[:20] = 255  # white above black
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to show
    Image.fromarray(np.rot90(upright)).save(tmp_path / "exif.png", exif=exif)
    Image.fromarray(np.full((40, 40), 51400, np.uint16)).save(tmp_path / "grey16.png")
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "clear.png", transparency=1)
    Image.new("LA", (40, 40), (255, 0)).save(tmp_path / "la.png")
    Image.new("1", (40, 40), 1).save(tmp_path / "bit.png")
    Image.fromarray(np.full((40, 40), 0.5, np.float32)).save(tmp_path / "float.tif")
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".txt").write_text("x")
    images = CaptionedImages(tmp_path, 40, background="#ff00ff")
    found = {}
    for i, key in enumerate(images.keys):
        sample = images[i, 0]
        assert sample["key"] == key, sample["skipped"]
        found[key] = ((sample["pixels"][0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert (found["exif"] == upright).all()
    assert found["grey16"][0, 0].tolist() == [200, 200, 200]
    assert np.abs(found["cmyk"][20, 20] - [255, 0, 0]).max() < 12
    assert found["palette"][0, 0].tolist() == [10, 200, 30]
    assert found["clear"][0, 0].tolist() == [255, 0, 255]
    assert found["la"][0, 0].tolist() == [255, 0, 255]
    assert found["bit"][0, 0].tolist() == [255, 255, 255]
    assert np.abs(found["float"][0, 0] - 127.5).max() <= 0.5


def test_alpha_is_composed_before_resizing(tmp_path):
    # hidden black under full transparency must not darken the edge
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:, :30] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("white on white")
    assert (CaptionedImages(tmp_path, 16)[0, 0]["pixels"] == 1).all()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def encoded(color, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(file, kind)
    return file.getvalue()


def write_shard(path, count=6, start=0):
    with tarfile.open(path, "w") as tar:
        for i in range(start, start + count):
            stem = f"{i:09d}"
            add(tar, f"{stem}.jpg", encoded((10 * i, 0, 0), "JPEG"))
            add(tar, f"{stem}.txt", f"number {i}".encode())
            add(tar, f"{stem}.json", json.dumps({"caption": f"number {i}", "status": "success"}).encode())
    return path


def test_image_shards(tmp_path):
    write_shard(tmp_path / "00000.tar")
    write_shard(tmp_path / "00001.tar", start=6)
    for root in (tmp_path, [tmp_path / "00000.tar", tmp_path / "00001.tar"]):
        images = CaptionedImages(root, 32)
        assert images.keys == [f"{i:09d}" for i in range(12)]
        for i in (11, 0, 7):
            sample = images[i, 0]
            assert sample["caption"] == f"number {i}" and images.captions(i) == [f"number {i}"]
            assert abs((sample["pixels"][0, 0].mean() + 1) * 127.5 - 10 * i) < 3
    assert CaptionedImages(tmp_path / "00001.tar", 32, include={"000000008"})[0, 0]["caption"] == "number 8"


def test_webdataset_reads_the_same_shards_in_the_same_order(tmp_path):
    wds = pytest.importorskip("webdataset")
    path = write_shard(tmp_path / "00000.tar")
    theirs = [s["__key__"] for s in wds.WebDataset(str(path), shardshuffle=False)]
    assert theirs == CaptionedImages(path, 8).keys


@pytest.mark.parametrize("keep", [700, 3000, 4096, 10_000, 12_288, 18_001])  # between, in headers and in members
def test_a_truncated_shard_keeps_its_whole_members(tmp_path, keep):
    path = write_shard(tmp_path / "00000.tar")
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        ends = {m.name: m.offset_data + m.size for m in tar}
    pictures = sum(end <= keep for name, end in ends.items() if name.endswith(".jpg"))
    captioned = sum(end <= keep for name, end in ends.items() if name.endswith(".txt"))
    path.write_bytes(data[:keep])
    if not pictures:  # within the first picture
        with pytest.raises(UserError, match="no usable file"):
            CaptionedImages(tmp_path, 8)
        return
    images = CaptionedImages(tmp_path, 8)
    assert len(images) == pictures < 6 and images.passed_by[0] == (str(path), "truncated shard")
    for i in range(captioned):
        sample = images[i, 0]
        assert sample["caption"] == f"number {i}" and not sample["skipped"]


def test_clip_shards_hold_every_kind(tmp_path, clip_folder):
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for path in sorted(clip_folder.iterdir()):
            add(tar, f"part/{path.stem}-{path.suffix[1:]}{path.suffix}", path.read_bytes())
    shards, files = UnlabelledClips(tmp_path, 16, 4, 30), UnlabelledClips(clip_folder, 16, 4, 30)
    assert len(shards) == len(files) == 7
    for i in range(7):
        assert shards[i, i]["skipped"] == []
    by_kind = {item.media.extension: i for i, item in enumerate(files.items)}
    for i, item in enumerate(shards.items):
        assert torch.equal(shards[i, 5]["pixels"], files[by_kind[item.media.extension], 5]["pixels"])
