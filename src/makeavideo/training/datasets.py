"""The data of a recipe: its files, less those that its split holds out."""

from dataclasses import dataclass

from ..data.clips import UnlabelledClips
from ..data.curriculum import FrameRateCurriculum
from ..data.images import CaptionedImages
from ..data.shards import ShardCache
from ..data.split import load_split
from .recipe import DataRecipe


@dataclass(frozen=True)
class NotIn:
    """True for the keys outside of a set; unlike a closure it can be sent to the data loader's processes."""

    excluded: frozenset[str]

    def __call__(self, key: str) -> bool:
        return key not in self.excluded


def captioned_images(data: DataRecipe, captions: bool = True) -> CaptionedImages:
    """The recipe's pictures (section 3.1); `captions`: leave out those without one."""
    return CaptionedImages(
        data.roots,
        size=data.size,
        background=data.background,
        crop=data.crop,
        include=None if data.split is None else NotIn(load_split(data.split).held_out_all),
        cache_bytes=cache_bytes(data),
        need_captions=captions,
        shards=shard_cache(data),
        buckets=data.buckets,
    )


def unlabelled_clips(data: DataRecipe) -> UnlabelledClips:
    """The recipe's clips, at the frame rates of its curriculum (sections 3.4 and 4)."""
    return UnlabelledClips(
        data.roots,
        size=data.size,
        num_frames=data.num_frames,
        fps=FrameRateCurriculum(data.fps_low, data.fps_high, data.fps_beta_start, data.fps_beta_end),
        short=data.short,
        background=data.background,
        crop=data.crop,
        include=None if data.split is None else NotIn(load_split(data.split).no_motion),
        cache_bytes=cache_bytes(data),
        shards=shard_cache(data),
        buckets=data.buckets,
    )


def cache_bytes(data: DataRecipe) -> int:
    """Of each process that reads, for its decoded frames: every worker fills a cache of its own, and this one too."""
    return int(data.cache_gb * 2**30) // (data.num_workers + 1)


def shard_cache(data: DataRecipe) -> ShardCache | None:
    return None if data.shard_cache is None else ShardCache(data.shard_cache, int(data.shard_cache_gb * 2**30))
