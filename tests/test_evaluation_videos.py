"""Folders of videos: which frames a protocol takes, and the captions."""

import numpy as np
import pytest
from PIL import Image

from makeavideo.errors import UserError
from makeavideo.evaluation import videos
from makeavideo.media.reader import Video
from makeavideo.media.writer import write_video
from tiny_evaluation import moving_clip, run


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
    with pytest.raises(UserError, match="has no column file: begin it"):
        videos.captions_of(files, table)
    table.write_text("file,text\n0,a\n")
    with pytest.raises(UserError, match="it needs file and caption"):
        videos.captions_of(files, table)


def test_folders_of_pictures_are_videos_and_empty_folders_are_refused(tmp_path):
    write_video(f"{tmp_path}/set/one/", moving_clip(1, 3, 16), 8)
    assert [path.name for path in videos.list_videos(tmp_path / "set")] == ["one"]
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "empty", "no video"), (tmp_path / "none", "no folder")):
        with pytest.raises(UserError, match=message):
            videos.list_videos(folder)


def test_still_pictures_are_no_videos_and_named(folders, tmp_path):
    """A gif, webp or avif of one frame, and a folder of one picture, counted as a video that never moves."""
    frame = Image.fromarray(moving_clip(1, 1, 32)[0])
    (tmp_path / "one").mkdir()
    stills = [tmp_path / name for name in ("a.avif", "b.gif", "c.webp", "one")]
    for path in stills:
        frame.save(path / "frame_00000.png" if path.name == "one" else path)
    with pytest.raises(UserError, match="nothing but 4 still pictures in"):
        videos.list_videos(tmp_path)
    for path in (folders / "made").iterdir():
        (tmp_path / path.name).symlink_to(path)
    for number, ending in enumerate((".gif", ".webp", ".apng")):
        frames = [Image.fromarray(one) for one in moving_clip(number, 3, 32)]
        kind = "PNG" if ending == ".apng" else None
        frames[0].save(tmp_path / f"moving{ending}", kind, save_all=True, append_images=frames[1:])
    found = run("motion", tmp_path, "--bootstrap", 0)
    assert found["still_pictures"] == list(map(str, stills))
    assert found["counts"]["videos"] == 9 and found["counts"]["single frames"] == 0
