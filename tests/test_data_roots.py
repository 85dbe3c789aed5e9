"""What `data index` finds under its roots is what the plain reader finds there, in parts for its processes."""

import os

import pytest

from makeavideo import UserError
from makeavideo.data import roots
from makeavideo.data.images import CaptionedImages
from makeavideo.data.indexed import IndexedItems
from makeavideo.data.indexing import build_index
from makeavideo.data.roots import tasks_of
from tiny_clips import picture


def test_links_pipes_and_hidden_files_are_as_in_the_plain_reader(tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    for folder in (data, other):
        folder.mkdir()
        picture(folder / f"{folder.name}.png")
    (data / "linked").symlink_to(other)
    (data / "round").symlink_to(data)
    (data / "dead.png").symlink_to(tmp_path / "nowhere.png")
    (data / ".hidden.png").write_bytes(b"x")
    os.mkfifo(data / "pipe.png")
    build_index([str(data)], tmp_path / "set.index")
    images, plain = CaptionedImages(tmp_path / "set.index", 8), CaptionedImages(data, 8)
    assert sorted(images.keys) == sorted(plain.keys) == ["data", "linked/other"]
    assert sorted(images.files) == sorted(plain.files)
    assert images.passed_by == sorted(plain.passed_by) and len(plain.passed_by) == 4
    with pytest.raises(UserError, match=r"nothing that can be indexed \(1 not a regular file\)"):
        build_index([str(data / "pipe.png")], tmp_path / "none.index")


def test_a_path_is_not_taken_for_a_chain_of_file_systems(tmp_path):
    data = tmp_path / "a::b"
    (data / "c::d").mkdir(parents=True)
    picture(data / "c::d" / "e.png", caption="a cat")
    picture(data / "f.png", caption=None)
    (data / "set.csv").write_text("path,caption\nf.png,a dog\n")
    for root in (str(data), f"file://{data}"):
        build_index([root], tmp_path / "set.index")
        images = CaptionedImages(tmp_path / "set.index", 8)
        assert sorted(images.keys) == ["c::d/e", "f"]
        assert {images[index, 0]["caption"] for index in range(2)} == {"a cat", "a dog"}


def test_files_of_one_name_stay_together(tmp_path, monkeypatch):
    """What one process is given at a time; a flat folder is no longer one part."""
    monkeypatch.setattr(roots, "FILES", 4)
    data = tmp_path / "data"
    data.mkdir()
    for number in range(9):
        picture(data / f"{number}.png", caption=f"number {number}")
        (data / f"{number}.json").write_text('{"keywords": ["thing"]}')
    (data / "1-a.png").write_bytes((data / "1.png").read_bytes())
    tasks, told = tasks_of([str(data)])
    parts = [{name.rpartition(".")[0] for name in task.files} for task in tasks]
    assert len(tasks) == 5 and sum(map(len, parts)) == len(set.union(*parts)) == 10 and not told
    build_index([str(data)], tmp_path / "set.index", workers=2)
    images = CaptionedImages(tmp_path / "set.index", 8)
    said = {key: images.captions(index) for index, key in enumerate(images.keys)}
    assert said == {**{str(n): [f"number {n}", "thing"] for n in range(9)}, "1-a": []}


@pytest.mark.parametrize("root", ["data", "data/set.csv"])
def test_windows_are_bounded_by_the_bytes_of_files_too(tmp_path, root, monkeypatch):
    monkeypatch.setattr("makeavideo.data.indexed.FEWEST", 1)
    data = tmp_path / "data"
    data.mkdir()
    for name in "abcd":
        picture(data / f"{name}.png", caption=None)
    if root.endswith("csv"):
        (data / "set.csv").write_text("path\na.png\nb.png\nc.png\nd.png\n")
    build_index([str(tmp_path / root)], tmp_path / "set.index")
    items = IndexedItems(tmp_path / "set.index", {"png"})
    assert items.bytes == sum(file.stat().st_size for file in data.glob("*.png"))
    monkeypatch.setattr("makeavideo.data.indexed.WINDOW_BYTES", 2 * (data / "a.png").stat().st_size)
    assert items.window == 2
