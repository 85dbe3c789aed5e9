"""Windows, segments and loops, with a stand-in for F-up whose answer is known: the cross-fade of what it is given."""

import pytest
import torch

from makeavideo.sampling import cross_fade
from makeavideo.sampling_config import SamplingConfig
from makeavideo.timeline import (
    KEY_FRAMES,
    Segment,
    Windows,
    continue_keys,
    embedding_path,
    frame_skip,
    key_frames,
    spans,
)

CONTEXT, TRANSITION = SamplingConfig().context, SamplingConfig().transition


def counting(first: float, count: int) -> torch.Tensor:
    """Frames of one pixel with the values first, first + 1, ..."""
    return (first + torch.arange(count, dtype=torch.float32)).view(1, count, 1, 1, 1)


class Fill:
    """Cross-fade, and a record of the windows."""

    def __init__(self):
        self.windows = []

    def __call__(self, given, mask, y_e):
        assert given.shape[:2] == mask.shape == y_e.shape[:2]
        self.windows.append(mask[0].int().tolist())
        return cross_fade(given, mask)


def usual(fill: Fill) -> Windows:
    return Windows(fill, CONTEXT, TRANSITION)


def values(chunks) -> list[float]:
    keys, y_e = zip(*chunks, strict=True)
    assert [k.shape[1] for k in keys] == [y.shape[1] for y in y_e]
    return torch.cat(keys, 1).flatten().tolist()


@pytest.mark.parametrize("length", [1, 6, 16, 21, 26, 31, 76])
def test_spans_cover_every_frame_and_start_on_key_frames(length):
    stretches = spans(length)
    assert sorted({i for span in stretches for i in span}) == list(range(length))
    assert all(len(span) == min(16, length) for span in stretches)
    assert all(span.start % 5 == 0 and (span.stop - 1) % 5 == 0 for span in stretches)


def test_76_frames_are_five_stretches_that_share_key_frames():
    assert [span.start for span in spans(76)] == [0, 15, 30, 45, 60]


@pytest.mark.parametrize("num_frames, fps, skip", [(16, 24, 1), (17, 24, 5), (76, 4, 1), (76, 5, 5), (1, 30, 1)])
def test_key_frames_are_never_more_than_a_second_apart(num_frames, fps, skip):
    assert frame_skip(num_frames, fps) == skip


def test_cross_fade_is_linear_between_given_frames_and_holds_outside():
    given = torch.tensor([9.0, 10, 9, 9, 16, 9]).view(1, 6, 1, 1, 1).expand(2, -1, 1, 1, 1)
    mask = torch.tensor([[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0]])
    faded = cross_fade(given, mask)[..., 0, 0, 0]
    assert torch.allclose(faded[0], torch.tensor([10.0, 10, 12, 14, 16, 16]))
    assert torch.equal(faded[1], torch.full((6,), 16.0))


def test_a_short_video_is_what_it_starts_with():
    fill = Fill()
    segment = Segment(lambda: counting(0, 16), torch.ones(1, 4), 16)
    assert values(key_frames([segment], False, usual(fill))) == list(range(16))
    assert not fill.windows


@pytest.mark.parametrize("start", [1, 6, 16])
@pytest.mark.parametrize("count", [17, 40, 100])
def test_any_length_window_after_window(start, count):
    fill = Fill()
    segment = Segment(lambda: counting(0, start), torch.ones(1, 4), count)
    made = values(key_frames([segment], False, usual(fill)))
    assert len(made) == count and made[:start] == list(range(start))
    assert set(made[start:]) == {float(start - 1)}  # a cross-fade holds the last frame
    for window in fill.windows:
        known = sum(window)
        assert known <= CONTEXT and len(window) <= KEY_FRAMES and window == [1] * known + [0] * (len(window) - known)


@pytest.mark.parametrize("context", [1, 6])
@pytest.mark.parametrize("loop", [False, True])
def test_a_sink_stays_in_sight_and_is_begun_with(context, loop):
    shown = []

    def fill(given, mask, y_e):
        shown.append((given.flatten().tolist(), int(mask.sum())))
        return torch.where(mask[:, :, None, None, None] > 0.5, given, given + 1000)

    segment = Segment(lambda: counting(7, 16), torch.ones(1, 4), 40)
    made = values(key_frames([segment], loop, Windows(fill, context, TRANSITION, sink=True)))
    assert made[:16] == list(range(7, 23)) and len(made) == 40 + loop
    for window, known in shown[: len(shown) - loop]:
        assert window[0] == 7 or context == 1
        # from the latest frame evenly to the first one
        steps = torch.tensor(window[known - 1 :]).diff()
        assert window[-1] == 7 and torch.allclose(steps, steps[:1])
    if loop:
        window, known = shown[-1]
        assert window[0] == (7 if context > 1 else 1007) and window[-1] == 7


@pytest.mark.parametrize("count", [5, 15, 16, 17, 18, 25, 33, 100])
def test_a_loop_closes_smoothly(count):
    fill = Fill()
    segment = Segment(lambda: counting(0, min(count, 16)), torch.ones(1, 4), count)
    made = values(key_frames([segment], True, usual(fill)))
    assert len(made) == count + 1 and made[-1] == made[0] == 0  # the closing frame is the first one again
    before = made[-TRANSITION - 2]  # the last frame that does not lead back yet
    steps = [made[i + 1] - made[i] for i in range(count - TRANSITION, count)]
    assert steps == pytest.approx([-before / (TRANSITION + 1)] * TRANSITION, rel=0.5, abs=1e-4)
    assert max(len(window) for window in fill.windows) <= KEY_FRAMES + 1


@pytest.mark.parametrize("context, transition", [(1, 4), (1, 15), (6, 0), (8, 8), (15, 1)])
def test_a_model_may_want_other_windows(context, transition):
    for count in (16, 17, 33, 60):
        fill = Fill()
        segment = Segment(lambda count=count: counting(0, min(count, 16)), torch.ones(1, 4), count)
        made = values(key_frames([segment], True, Windows(fill, context, transition)))
        assert len(made) == count + 1 and made[-1] == made[0] == 0
        kept = max(1, min(16, count - transition))
        assert made[:kept] == list(range(kept))
        for window in fill.windows:
            assert window[: sum(window[:-1])] == [1] * sum(window[:-1]) and sum(window[:-1]) <= context
            assert len(window) <= KEY_FRAMES + 1


def test_two_pictures_are_the_ends():
    segments = [
        Segment(lambda: counting(0, 1), torch.ones(1, 4), 15),
        Segment(lambda: counting(30, 1), -torch.ones(1, 4), 1),
    ]
    fill = Fill()
    assert values(key_frames(segments, False, usual(fill))) == pytest.approx([2.0 * i for i in range(16)])
    assert fill.windows == [[1] + [0] * 14 + [1]]


def test_a_story_passes_from_one_prompt_to_the_next():
    starts = []

    def start(first):
        return lambda: (starts.append(first), counting(first, 16))[1]

    segments = [Segment(start(100 * n), torch.eye(3)[n : n + 1], 24) for n in range(3)]
    made = values(key_frames(segments, False, usual(Fill())))
    assert len(made) == 72 and starts == [0, 100, 200]
    for n in range(3):
        assert made[24 * n : 24 * n + 16] == list(range(100 * n, 100 * n + 16))
    assert made[23] == pytest.approx(100 - 85 / 9)  # eight frames lead from 15 to 100


def test_embeddings_pass_over_and_keep_their_length():
    first, second = torch.tensor([[8.0, 0]]), torch.tensor([[0, 8.0]])
    path = embedding_path(first, second, known=16, count=20)[0]
    assert torch.allclose(path.norm(dim=-1), torch.full((20,), 8.0))
    assert torch.allclose(path[:16], first.expand(16, 2))
    assert (path[16:, 1].diff() > 0).all() and path[16, 1] > 0


def test_the_last_window_reaches_the_end_with_room():
    """However many frames are left, at least TRANSITION of them lie in the window that sees the end."""
    for total in range(7, 60):
        fill = Fill()
        chunks = list(continue_keys(counting(0, 6), counting(50, 1), torch.ones(1, total, 2), usual(fill)))
        assert sum(k.shape[1] for k, _ in chunks) == total - 6
        last = fill.windows[-1]
        assert last[-1] == 1 and last.count(0) >= min(TRANSITION, total - 6)
