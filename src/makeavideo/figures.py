"""What is fixed about the cascade: the numbers of its shape (section 3 of the paper), what callbacks are given, and how
its networks can run."""

from collections.abc import Sized

KEY_FRAMES = 16
"""Frames that D_t makes, and the window that F-up works on."""
FRAME_SKIP = 5
"""F-up puts FRAME_SKIP - 1 new frames between two key frames: 16 -> 76."""
MOST_VIDEOS = 10_000
"""Of one prompt in one call: their embeddings, and a few frames of each, are in memory together."""
MAX_FRAMES = (KEY_FRAMES - 1) * FRAME_SKIP + 1
"""Frames of a video that D_t covers with one window: the shape of the paper."""
STRONGEST_MOTION = 4.0
"""Strengths of motion are cut off here: few clips are stronger, and D_t need not tell them apart."""
TIMESTEPS = 1000
"""Networks are told the noise level as `t * TIMESTEPS`, the range that diffusers' time embeddings are made for."""
SR_LOW_FACTOR, SR_HIGH_FACTOR = 4, 3
"""Of each side of a picture: 64 -> 256 -> 768 pixels."""
CALLBACK_TENSORS = ["latents", "sample"]
"""What a pipeline's callback can be given: x_t, which it may change, and what the frames look like by now."""
DTYPES = ("float32", "bfloat16", "float16")
"""Of torch, in which networks can run."""
OFFLOADS = ("model", "sequential")
"""Ways of keeping networks in the processor's memory while they do not run."""


def shrinkage(codec_blocks: Sized) -> int:
    """Pixels along each side of a frame that become one of its latents, from a codec's `block_out_channels`."""
    return 2 ** (len(codec_blocks) - 1)
