"""Videos as streams: iterators over chunks of frames (b, a few frames, ...), so that none is ever held whole."""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor


def in_stretches(chunks: Iterable[Tensor], length: int) -> Iterator[Tensor]:
    """The same frames (b, f, ...) in stretches of `length`; where all are alike, memory is used again."""
    held = None
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], 1)
        while held.shape[1] >= length:
            yield held[:, :length]
            held = held[:, length:]
    if held is not None and held.shape[1]:
        yield held


def in_no_grad(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """A generator runs where it is consumed, outside of the decorator of the method that made it."""
    iterator = iter(chunks)
    while True:
        with torch.no_grad():
            chunk = next(iterator, None)
        if chunk is None:
            return
        yield chunk


def take(chunks: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """The first `count` frames."""
    for chunk in chunks:
        yield chunk[:, :count]
        count -= chunk.shape[1]
        if count <= 0:
            return


def without_first(chunks: Iterable[tuple[Tensor, Tensor]], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All but the first `count` frames, which lie in the first chunk."""
    iterator = iter(chunks)
    frames, embeddings = next(iterator)
    return chain([(frames[:, count:], embeddings[:, count:])], iterator)


def without_first_frame(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    for number, chunk in enumerate(chunks):
        if number or chunk.shape[1] > 1:
            yield chunk if number else chunk[:, 1:]
