"""The measures on texts and frames: CLIPSIM and text-to-video retrieval."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .features import in_batches
from .results import Result, Value, bootstrap, bootstrap_settings, mean_value
from .text_image import TextImageNetwork, text_image_network
from .videos import Folder, Tell, captions_of, frames_of, list_videos, shown, still_pictures


def embedded(
    made: Folder,
    captions: str | Path | Sequence[str] | None,
    network: TextImageNetwork,
    frames: int,
    batch_size: int,
    tell: Tell | None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Texts (videos, dim), frames (videos, frames, dim), both unit vectors, and the captions."""
    files = list(made) if isinstance(made, list) else list_videos(made)
    if captions is None or isinstance(captions, (str, Path)):
        captions = captions_of(files, captions, made if isinstance(made, (str, Path)) else None)
    elif len(captions) != len(files):
        raise UserError(f"There are {len(captions)} captions for {len(files)} videos: give one for each.")
    pictures = [
        in_batches(network.embed_frames, shots, batch_size)
        for _, shots in frames_of(files, frames, None, 0, tell, "videos")
    ]
    captions = list(captions)
    parts = [network.embed_texts(captions[start : start + 256]) for start in range(0, len(captions), 256)]
    return np.concatenate(parts), np.stack(pictures), captions


def clipsim(
    made: Folder,
    network: TextImageNetwork | str | Path,
    captions: str | Path | Sequence[str] | None = None,
    frames: int = 16,
    seed: int = 0,
    draws: int = 1000,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Result:
    """CLIPSIM (GODIVA, arXiv 2104.14806): cosine of text and frame, mean over a video's frames, then over videos.

    Args:
        network: a TextImageNetwork, or what `text_image_network` takes.
        captions: a csv (see `captions_of`), one caption a video, or None: the prompt in each file's recipe.
        frames: how many of each video, evenly spread.

    Raises:
        UserError: an empty folder, an unreadable video, a video without caption, no such network.
    """
    network = text_image_network(network) if isinstance(network, (str, Path)) else network
    texts, pictures, _ = embedded(made, captions, network, frames, batch_size, tell)
    cosines = np.einsum("vd,vfd->v", texts, pictures) / pictures.shape[1]
    return Result(
        measure="CLIPSIM",
        values={"cosine": mean_value(cosines.astype(np.float64), draws, seed)},
        settings={"made": shown(made), "frames a video": frames, "captions": source_of(captions)},
        counts={"videos": len(cosines), "frames": pictures.shape[0] * pictures.shape[1]},
        seed=seed,
        still_pictures=still_pictures(made),
        network={"name": network.name, "weights": network.weights},
        bootstrap=bootstrap_settings(draws),
    )


def source_of(captions: str | Path | Sequence[str] | None) -> str:
    if captions is None:
        return "each file's recipe"
    return str(captions) if isinstance(captions, (str, Path)) else "given"


def retrieval(
    made: Folder,
    network: TextImageNetwork | str | Path,
    captions: str | Path | Sequence[str] | None = None,
    frames: int = 16,
    seed: int = 0,
    draws: int = 1000,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Result:
    """Text-to-video retrieval: does a caption find its video among all? R@1, R@5 and the median rank (1 is best).

    A video is the mean of its frames' unit vectors, as in CLIP4Clip's parameter-free head (arXiv 2104.08860). Videos of
    the very same caption are equally right: the rank is that of the best of them. The interval resamples captions and
    leaves the videos that they choose from as they are. Arguments and errors as for `clipsim`.
    """
    network = text_image_network(network) if isinstance(network, (str, Path)) else network
    texts, pictures, names = embedded(made, captions, network, frames, batch_size, tell)
    videos = pictures.mean(1)
    videos /= np.linalg.norm(videos, axis=1, keepdims=True)
    _, number = np.unique(names, return_inverse=True)
    ranks = ranks_of(texts @ videos.T, number)
    values = {}
    for name, statistic in (
        ("R@1", lambda r: (r <= 1).mean()),
        ("R@5", lambda r: (r <= 5).mean()),
        ("median rank", np.median),
    ):
        interval = bootstrap(lambda chosen, s=statistic: s(ranks[chosen]), [len(ranks)], draws, seed)
        values[name] = Value(float(statistic(ranks)), interval)
    return Result(
        measure="text-video retrieval",
        values=values,
        settings={"made": shown(made), "frames a video": frames, "captions": source_of(captions)},
        counts={"videos": len(ranks), "different captions": int(number.max()) + 1},
        seed=seed,
        still_pictures=still_pictures(made),
        network={"name": network.name, "weights": network.weights},
        bootstrap=bootstrap_settings(draws, "captions"),
    )


def ranks_of(similarity: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Rank (texts,) of the best right video: 1 + how many wrong ones are as near or nearer.

    similarity: (texts, videos). number: (texts,), the caption's number; text i and video i belong together.
    """
    right = number[:, None] == number[None]
    best = np.where(right, similarity, -np.inf).max(1, keepdims=True)
    return 1 + ((similarity >= best) & ~right).sum(1)
