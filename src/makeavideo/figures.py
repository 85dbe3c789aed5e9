"""The numbers of the cascade's shape (section 3 of the paper), apart from what computes with them"""

KEY_FRAMES = 16
"""Frames that D_t makes, and the window that F-up works on."""
FRAME_SKIP = 5
"""F-up puts FRAME_SKIP - 1 new frames between two key frames: 16 -> 76."""
MAX_FRAMES = (KEY_FRAMES - 1) * FRAME_SKIP + 1
"""Frames of a video that D_t covers with one window: the shape of the paper."""
TIMESTEPS = 1000
"""Networks are told the noise level as `t * TIMESTEPS`, the range that diffusers' time embeddings are made for."""
SR_LOW_FACTOR, SR_HIGH_FACTOR = 4, 3
"""Of each side of a picture: 64 -> 256 -> 768 pixels."""
