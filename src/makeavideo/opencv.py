"""OpenCV, in one thread: a process that is forked while it has more, as a data reader is, hangs when it ends them."""

import cv2

cv2.setNumThreads(1)

__all__ = ["cv2"]
