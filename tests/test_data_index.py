"""An index gives the samples of its folders, shards and lists, from this disk and from elsewhere."""

import errno
import io
import json
import os
import pickle
import shutil
import subprocess
import tarfile

import fsspec
import pytest
import torch
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from makeavideo import UserError
from makeavideo.cli.main import app
from makeavideo.data.clips import UnlabelledClips
from makeavideo.data.images import CaptionedImages
from makeavideo.data.indexed import RECORD, IndexedItems
from makeavideo.data.indexing import build_index
from makeavideo.data.report import SkipReport
from makeavideo.data.shards import ShardCache
from makeavideo.media.disk import temporary_in
from tiny_clips import picture, write_animation


def write_shard(path, start, count=5):
    """As img2dataset writes it, with its two files beside the shard, and one picture that could not be had."""
    with tarfile.open(path, "w") as tar:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        for number in range(start, start + count):
            file = path.with_name("one.png")
            picture(file, color=(20 * number, 0, 99), caption=None)
            add(f"{number:09d}.jpg", file.read_bytes())
            add(f"{number:09d}.txt", f"number {number}".encode())
            said = {"caption": f"number {number}", "status": "success", "key": f"{number:09d}", "url": "http://x"}
            add(f"{number:09d}.json", json.dumps(said).encode())
        file.unlink()
    path.with_suffix(".parquet").write_bytes(b"PAR1")
    path.with_name(f"{path.stem}_stats.json").write_text("{}")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for number in range(3):
        write_shard(folder / f"{number:05d}.tar", 0)  # keys are unique in a shard only
    return folder


def same_samples(one, other):
    assert len(one) == len(other) and one.keys == other.keys
    for index in range(len(one)):
        a, b = one[index, 7], other[index, 7]
        assert torch.equal(a["pixels"], b["pixels"]) and a["caption"] == b["caption"] and a["words"] == b["words"]
        assert one.wordings(index).all == other.wordings(index).all


def test_an_index_of_shards_gives_the_same_samples(shards, tmp_path):
    samples, kinds, report = build_index([str(shards)], tmp_path / "set.index", workers=2)
    assert (samples, dict(kinds), len(report)) == (15, {"jpg": 15}, 0)
    images = CaptionedImages(tmp_path / "set.index", 16)
    same_samples(images, CaptionedImages(shards, 16))
    assert CaptionedImages(shards, 16).passed_by == images.passed_by == []
    assert RECORD.itemsize == 32 and (tmp_path / "set.index" / "samples.bin").stat().st_size == 15 * 32
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again[3, 1]["pixels"], images[3, 1]["pixels"])
    loader = DataLoader(images, batch_sampler=[[(4, 1, 0.0), (11, 2, 0.0)]], collate_fn=list, num_workers=1)
    assert [sample["caption"] for sample in next(iter(loader))] == ["number 4", "number 1"]


def test_folders_keep_their_keys_sidecars_and_remarks(tmp_path):
    data = tmp_path / "data"
    for name in ("cat/001", "dog/001", "plain"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        picture(data / f"{name}.png", caption=None)
    said = {"label": "cat", "keywords": ["pet", "fur"], "group": "g", "concept": "1f431"}
    (data / "cat/001.json").write_text(json.dumps(said))
    (data / "dog/001.json").write_text(json.dumps({**said, "label": "dog", "concept": "1f436"}))
    (data / "plain.txt").write_bytes("ein Bär".encode("cp1252"))
    (data / "notes.docx").write_text("x")
    build_index([str(data)], tmp_path / "set.index")
    images, plain = CaptionedImages(tmp_path / "set.index", 8), CaptionedImages(data, 8)
    assert sorted(images.keys) == sorted(plain.keys) == ["cat/001", "dog/001", "plain"]
    by_key = {key: plain.wordings(index) for index, key in enumerate(plain.keys)}
    assert {key: images.wordings(index) for index, key in enumerate(images.keys)} == by_key
    assert {path.rpartition("/")[2] for path, _ in images.passed_by} == {"notes.docx", "plain.txt"}
    images.draw_caption(images.keys.index("cat/001"), __import__("random").Random(0))
    assert images._draw.groups == {"pet": 1, "fur": 1}  # of one group
    report = SkipReport()
    report.add([(str(data / "plain.png"), "empty file"), (str(data / "gone.png"), "empty file")])
    assert report.text(images.files, "pictures").startswith("1 of 3 pictures was never used")
    assert all(path in images.files for path in plain.files) and str(data) not in images.files


def test_paths_are_looked_up_without_reading_the_index(shards, tmp_path, monkeypatch):
    """A report asks for a few of them, of ten million rows."""
    build_index([str(shards)], tmp_path / "set.index")
    files = CaptionedImages(tmp_path / "set.index", 8).files
    assert set(files) == set(CaptionedImages(shards, 8).files) and len(files) == 15
    names = list(files)
    monkeypatch.setattr(IndexedItems, "__getitem__", None)
    assert all(name in files for name in names) and f"{shards}/00000.tar/gone.jpg" not in files


def test_clips_of_video2dataset(tmp_path):
    write_animation(tmp_path / "one.webp", 12, 50)
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for number in range(2):
            tar.add(tmp_path / "one.webp", f"00000_{number:04d}.webp")
            for ending in ("txt", "json"):
                info = tarfile.TarInfo(f"00000_{number:04d}.{ending}")
                tar.addfile(info)
    (tmp_path / "00000.parquet").touch()
    build_index([str(tmp_path / "00000.tar")], tmp_path / "set.index", only="clips")
    clips = UnlabelledClips(tmp_path / "set.index", 8, 4, 20.0)
    assert clips.keys == ["00000_0000", "00000_0001"] and not clips.passed_by
    assert torch.equal(clips[1, 3]["pixels"], UnlabelledClips(tmp_path / "00000.tar", 8, 4, 20.0)[1, 3]["pixels"])


@pytest.fixture
def bucket(shards):
    """The shards in fsspec's own object store."""
    fs = fsspec.filesystem("memory")
    for file in sorted(shards.iterdir()):
        fs.pipe_file(f"/bucket/{file.name}", file.read_bytes())
    yield fs
    fs.rm("/bucket", recursive=True)


def test_shards_elsewhere_in_place_and_through_a_bounded_cache(bucket, shards, tmp_path):
    build_index(["memory://bucket"], tmp_path / "far.index", workers=2)
    here = CaptionedImages(shards, 16)
    same_samples(CaptionedImages(tmp_path / "far.index", 16, cache_bytes=0), here)
    size = max(file.stat().st_size for file in shards.glob("*.tar"))
    cache = ShardCache(tmp_path / "cache", 2 * size)
    images = CaptionedImages(tmp_path / "far.index", 16, cache_bytes=0, shards=cache)
    kept = set()
    for index in range(15):
        assert images[index, 0]["caption"] == here[index, 0]["caption"]
        kept = {file.name for file in (tmp_path / "cache").glob("*.tar")}
        assert 1 <= len(kept) <= 2 and sum(f.stat().st_size for f in (tmp_path / "cache").glob("*.tar")) <= 2 * size
    bucket.rm("/bucket/00002.tar")  # and what is kept is read without asking again
    assert images[14, 0]["caption"] == "number 4" and not images[14, 0]["skipped"]
    told = images[0, 0]["skipped"]
    assert not told and {file.name for file in (tmp_path / "cache").glob("*.tar")} != kept


def test_a_server_that_gives_whole_files_only_is_told(bucket, tmp_path, monkeypatch):
    build_index(["memory://bucket"], tmp_path / "far.index")
    monkeypatch.setattr(type(bucket), "cat_file", lambda fs, path, **part: fs.store[path].getvalue())
    with pytest.raises(UserError, match="gives no part of a file: have whole shards kept"):
        CaptionedImages(tmp_path / "far.index", 16)[0, 0]
    cached = CaptionedImages(tmp_path / "far.index", 16, shards=ShardCache(tmp_path / "cache", 10**9))
    assert not cached[0, 0]["skipped"]


def test_a_shard_cache_that_cannot_be_written_is_one_sentence(bucket, tmp_path, monkeypatch):
    """Not pictures that cannot be read, in whose place others stand: the training would go on with the rest."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # of a write it names no file

    build_index(["memory://bucket"], tmp_path / "far.index")
    (tmp_path / "a file").touch()
    monkeypatch.setattr("makeavideo.data.shards.WAIT", 0)
    monkeypatch.setattr(type(bucket), "get_file", full)
    for folder in (tmp_path / "cache", tmp_path / "a file"):
        with pytest.raises(UserError, match=r"The shard cache .* cannot be written \((No space|Not a dir|File exists)"):
            CaptionedImages(tmp_path / "far.index", 16, shards=ShardCache(folder, 10**9))[0, 0]


def test_what_is_half_fetched_counts_in_the_cache_and_goes_with_its_process(bucket, tmp_path):
    build_index(["memory://bucket"], tmp_path / "far.index")
    dead = subprocess.Popen(["true"])
    dead.wait()
    ours = temporary_in(tmp_path)
    left = tmp_path / ours.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    sizes = [bucket.size(f"/bucket/{number:05d}.tar") for number in range(3)]
    for file in (ours, left):
        file.write_bytes(bytes(sizes[0]))
    images = CaptionedImages(tmp_path / "far.index", 16, cache_bytes=0, shards=ShardCache(tmp_path, 2 * max(sizes)))
    for index in (0, 5, 10):
        assert not images[index, 0]["skipped"] and not left.exists() and ours.exists()
        assert len(list(tmp_path.glob("*.tar"))) == 1


def test_two_that_index_at_once_do_not_mix(shards, tmp_path):
    inner = []

    def tell(done, total):
        if done == 2:
            inner.append(build_index([str(shards / "00000.tar")], tmp_path / "set.index")[0])

    assert build_index([str(shards)], tmp_path / "set.index", tell=tell)[0] == 15 and inner == [5]
    assert len(CaptionedImages(tmp_path / "set.index", 8)) == 15
    assert [path.name for path in tmp_path.iterdir()] == ["set.index"]


def test_a_shard_that_changed_is_told_and_another_sample_stands_for_it(shards, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    build_index([str(folder)], tmp_path / "set.index")
    write_shard(folder / "00001.tar", 6)
    sample = CaptionedImages(tmp_path / "set.index", 8)[7, 0]
    (path, reason), *_ = sample["skipped"]
    assert path.startswith(str(folder / "00001.tar")) and "changed since it was indexed" in reason
    assert sample["index"] // 5 != 1


def test_a_split_holds_out_by_name_and_nothing_is_said_of_it(shards, tmp_path):
    build_index([str(shards)], tmp_path / "set.index")
    images = CaptionedImages(tmp_path / "set.index", 8, include=lambda stem: stem != "000000002")
    drawn = [images[index, seed] for index in (2, 7, 12) for seed in range(5)]
    assert all(sample["key"] != "000000002" and not sample["skipped"] for sample in drawn)
    with pytest.raises(UserError, match="none of the files to include"):
        CaptionedImages(tmp_path / "set.index", 8, include={"another"})[0, 0]


def test_what_is_wrong_is_one_sentence(shards, tmp_path):
    write_animation(tmp_path / "a.mp4.webp", 3)
    with pytest.raises(UserError, match="name of a data folder is empty"):
        build_index([""], tmp_path / "no.index", workers=1)
    with pytest.raises(UserError, match="does not exist or is empty"):
        build_index([str(tmp_path / "nowhere")], tmp_path / "x")
    with pytest.raises(UserError, match="cannot be reached"):
        build_index(["nothing://here"], tmp_path / "x")
    with pytest.raises(UserError, match="nothing that can be indexed"):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "a.txt").touch()
        build_index([str(tmp_path / "empty")], tmp_path / "x")
    with pytest.raises(UserError, match="is no index"):
        build_index([str(shards)], shards)
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".*partial"))
    build_index([str(shards)], tmp_path / "set.index")
    with pytest.raises(UserError, match=r"holds pictures too \(15 \.jpg\).*--only clips"):
        UnlabelledClips(tmp_path / "set.index", 8)
    with pytest.raises(UserError, match="the only root"):
        CaptionedImages([tmp_path / "set.index", shards], 8)


@pytest.mark.parametrize("name", ["samples.bin", "words.bin", "paths.bin", "shards.json", "index.json"])
def test_an_index_that_is_damaged_is_made_again(shards, tmp_path, name):
    build_index([str(shards)], tmp_path / "set.index")
    whole = (tmp_path / "set.index" / name).read_bytes()
    for content in (b"", b"[]", b"[1]", b"{}", whole[:-32], b"[" * 100_000):
        (tmp_path / "set.index" / name).write_bytes(content)
        with pytest.raises(UserError, match=r"is damaged: make it again"):
            IndexedItems(tmp_path / "set.index", {"jpg"})


@pytest.mark.parametrize("name", ["samples.bin", "words.bin", "shards.json", "keywords.json"])
def test_an_index_is_damaged_where_nobody_looked_when_it_was_opened(shards, tmp_path, name):
    build_index([str(shards)], tmp_path / "set.index")
    (tmp_path / "set.index" / name).write_bytes((tmp_path / "set.index" / name).read_bytes()[::-1])
    with pytest.raises(UserError, match=r"is damaged: make it again"):
        items = IndexedItems(tmp_path / "set.index", {"jpg"})
        assert [item.media.read() for item in items] and items.keywords()


def test_the_command(shards, tmp_path):
    done = CliRunner().invoke(app, ["data", "index", str(shards), "-o", str(tmp_path / "set.index"), "--workers", "2"])
    assert done.exit_code == 0 and "15 samples (15 .jpg)" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["data", "index", str(shards), "-o", "x", "--only", "sounds"])
    assert isinstance(done.exception, UserError)
