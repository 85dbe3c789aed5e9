"""Lists of files, csv and jsonl: what a row says is there, and nothing is lost without a word."""

import csv
import json

import fsspec
import pytest

from makeavideo import UserError
from makeavideo.data.images import CaptionedImages
from makeavideo.data.indexed import IndexedItems
from makeavideo.data.indexing import build_index
from makeavideo.data.lists import read_rows
from makeavideo.data.roots import NO_ROWS, ROW_TAKEN
from tiny_clips import picture


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_lists_name_files_and_say_what_they_show(tmp_path, kind):
    (tmp_path / "deep").mkdir()
    far = picture(tmp_path / "far.png", caption="not read")
    picture(tmp_path / "deep" / "near.png", caption=None)
    rows = [{"path": "deep/near.png", "caption": "a cat"}, {"path": str(far), "caption": "two\nlines"}]
    rows += [{"path": "gone.png", "caption": "nothing"}]
    with open(tmp_path / f"set.{kind}", "w", newline="") as file:
        if kind == "csv":
            writer = csv.DictWriter(file, ["path", "caption"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    samples, _, report = build_index([str(tmp_path / f"set.{kind}")], tmp_path / "set.index")
    assert samples == 2 and list(report) == [(str(tmp_path / "gone.png"), "No such file or directory")]
    images = CaptionedImages(tmp_path / "set.index", 8)
    assert [images.captions(index) for index in range(2)] == [["a cat"], ["two lines"]]
    assert not images[0, 0]["skipped"] and images[1, 0]["pixels"].shape == (1, 3, 8, 8)
    with pytest.raises(UserError, match="through an index"):
        CaptionedImages(tmp_path / f"set.{kind}", 8)
    (tmp_path / f"set.{kind}").write_text("caption\na cat\n" if kind == "csv" else '{"caption": "a cat"}\n')
    with pytest.raises(UserError, match=r"has no (column )?path"):
        build_index([str(tmp_path / f"set.{kind}")], tmp_path / "other.index")


DEEP = '{"path": "b.png", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
WRONG = [
    ("csv", "path,caption\na.png,a cat, asleep\n", "Line 2 of {} has more cells than the head: put a text"),
    ("csv", 'path,caption\na.png,"two\nlines"\nb.png,a dog, too\n', "Line 4 of {} has more cells"),
    ("csv", 'path,caption\na.png,a cat\nb.png,"a dog\nc.png,a bird\n', "{} is no csv (the row of line 3: unexpected"),
    ("csv", 'path,caption\na.png,"a" cat\n', "{} is no csv (the row of line 2: "),
    ("csv", "path,caption,caption\na.png,one,two\n", "{} has the column 'caption' twice"),
    ("csv", "path,caption\n,a cat\n", "Line 2 of {} has no path"),
    ("csv", "name,caption\na.png,a cat\n", "{} has no column path: begin it"),
    ("jsonl", '{"path": "a.png"}\n\n' + DEEP + "\n", "Line 3 of {} is no JSON object: give each one a `path`"),
    ("jsonl", '{"path": "a.png"}\n{"path": "b.png", "cap\n', "Line 2 of {} is no JSON object"),
    ("jsonl", '{"path": "a.png"}\n{"caption": "a cat"}\n', "Line 2 of {} has no path"),
    ("jsonl", '["a.png"]\n', "Line 1 of {} is no JSON object"),
]


@pytest.mark.parametrize("kind, text, told", WRONG)
def test_a_row_that_would_be_lost_is_named(tmp_path, kind, text, told):
    file = tmp_path / f"set.{kind}"
    file.write_text(text)
    for name in "abc":
        picture(tmp_path / f"{name}.png", caption=None)
    with pytest.raises(UserError) as refused:
        build_index([str(file)], tmp_path / "set.index")
    assert told.format(file) in str(refused.value) and str(refused.value).count("\n") == 0


def test_a_list_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "set.csv").write_bytes("path,caption\na.png,ein Bär\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"set\.csv is not in UTF-8: save it as that"):
        build_index([str(tmp_path / "set.csv")], tmp_path / "set.index")


def test_what_spreadsheets_leave_empty_is_nothing(tmp_path):
    (tmp_path / "set.csv").write_text("path,caption,,\na.png,a cat,,\n,,,\n")
    assert list(read_rows(str(tmp_path / "set.csv"))) == [(("a.png",), (b'{"caption": "a cat"}',))]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_of_one_file_are_one_sample(tmp_path, kind, monkeypatch):
    """COCO has five captions a picture: in one batch they would be each other's negatives."""
    monkeypatch.setattr("makeavideo.data.lists.ROWS", 1)
    rows = [("a.png", "a cat"), ("a.png", "a cat asleep"), ("a.png", "a cat"), ("b.png", "a dog")]
    if kind == "csv":
        text = "path,caption\n" + "".join(f"{path},{said}\n" for path, said in rows)
    else:
        text = "".join(json.dumps({"path": path, "caption": said}) + "\n" for path, said in rows)
    (tmp_path / f"set.{kind}").write_text(text)
    for name in "ab":
        picture(tmp_path / f"{name}.png", caption=None)
    assert build_index([str(tmp_path / f"set.{kind}")], tmp_path / "set.index")[0] == 2
    images = CaptionedImages(tmp_path / "set.index", 8)
    assert [images.captions(index) for index in range(2)] == [["a cat", "a cat asleep"], ["a dog"]]


@pytest.mark.parametrize("said", ["text", "caption"])
def test_folders_of_hugging_face(tmp_path, said):
    """Imagefolder: metadata.csv beside the pictures, which lie loose in the same folder too."""
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    for name in "ab":
        picture(data / "train" / f"{name}.png", caption="not read" if name == "a" else None)
    picture(data / "train" / "c.png", caption="a bird")
    (data / "metadata.csv").write_text(f"file_name,{said}\ntrain/a.png,a cat\ntrain/b.png,a dog\n")
    samples, _, report = build_index([str(data)], tmp_path / "set.index")
    images = CaptionedImages(tmp_path / "set.index", 8)
    said_of = {key: images.captions(index) for index, key in enumerate(images.keys)}
    assert samples == 3 and said_of == {"train/a": ["a cat"], "train/b": ["a dog"], "train/c": ["a bird"]}
    assert list(report) == [(f"{data}/train/a.txt", ROW_TAKEN)]


def test_a_table_without_paths_in_a_folder_is_passed_by_and_named(tmp_path):
    """As those that data clips writes beside its shards, or a log."""
    data = tmp_path / "data"
    data.mkdir()
    picture(data / "a.png")
    tables = {"figures.jsonl": '{"video": "x.mp4", "scene": 0}\n', "log.jsonl": "not JSON\n", "empty.csv": ""}
    tables["prices.csv"] = "item,price\ncat,1,2\n"
    for name, text in tables.items():
        (data / name).write_text(text)
    samples, _, report = build_index([str(data)], tmp_path / "set.index")
    assert samples == 1
    assert list(report) == sorted((str(data / name), "a list whose rows have no path") for name in tables)
    with pytest.raises(UserError, match=r"Line 1 of .*figures\.jsonl has no path"):
        build_index([str(data / "figures.jsonl")], tmp_path / "other.index")


def test_a_list_without_rows_is_named(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "set.csv").write_text("path,caption\n")
    assert list(build_index([str(tmp_path)], tmp_path / "set.index")[2]) == [(f"{tmp_path}/set.csv", NO_ROWS)]
    with pytest.raises(UserError, match=r"nothing that can be indexed \(1 a list without rows\)"):
        build_index([str(tmp_path / "set.csv")], tmp_path / "other.index")


def test_a_list_elsewhere_wins_over_what_lies_beside_it(tmp_path):
    fs, content = fsspec.filesystem("memory"), picture(tmp_path / "a.png", caption=None).read_bytes()
    try:
        fs.pipe_file("/listed/a.png", content)
        fs.pipe_file("/listed/b.png", content)
        fs.pipe_file("/listed/.cache/c.png", content)
        fs.pipe_file("/listed/metadata.jsonl", b'{"file_name": "a.png", "text": "a cat"}\n')
        samples, _, report = build_index(["memory://listed"], tmp_path / "set.index")
        images = CaptionedImages(tmp_path / "set.index", 8, need_captions=False)
        assert samples == 2 and {key: images.captions(at) for at, key in enumerate(images.keys)} == {
            "a": ["a cat"],
            "b": [],
        }
        assert [path.rpartition("/")[2] for path, _ in report] == [".cache"]
        assert not images[0, 0]["skipped"] and not images[1, 0]["skipped"]
        assert sorted(IndexedItems(tmp_path / "set.index", {"png"}).records["size"]) == [0, len(content)]
    finally:
        fs.rm("/listed", recursive=True)
