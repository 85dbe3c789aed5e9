"""What each stage learns, a file for each network of the cascade (section 3 of the paper)."""

from .base import Stage, captioned_images, load_folder, unlabelled_clips
from .clip import ClipStage
from .decoder import DecoderStage, DecoderVideoStage
from .interpolator import InterpolatorStage
from .prior import PriorStage
from .super_resolution import SRHighImageStage, SRLowImageStage, SRLowVideoStage

__all__ = ["STAGES", "Stage", "captioned_images", "load_folder", "unlabelled_clips"]

STAGES: dict[str, type[Stage]] = {
    "clip": ClipStage,
    "prior": PriorStage,
    "decoder-image": DecoderStage,
    "decoder-video": DecoderVideoStage,
    "interpolator": InterpolatorStage,
    "sr-low-image": SRLowImageStage,
    "sr-low-video": SRLowVideoStage,
    "sr-high-image": SRHighImageStage,
}
