"""The order of an epoch without a list of it: keyed permutations, over the shards and then within windows of samples.

Where a sample stands follows from (seed, epoch, position) alone: any number of processes reads the same order, and a
run goes on anywhere at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

ROUNDS = 6
MASK = 2**64 - 1

Order = Callable[[int], int]
"""Position in an epoch -> index of a sample."""


class Permutation:
    """A bijection of the integers below `length`, chosen by a key: a Feistel network with cycle walking.

    What falls outside goes through the network again until it is inside ("Ciphers with arbitrary finite domains", Black
    and Rogaway 2002): fewer than two rounds on average, and no memory.
    """

    def __init__(self, length: int, *key: int) -> None:
        bits = max((length - 1).bit_length(), 2)
        self.length, self._low = length, bits // 2
        self._low_mask, self._high_mask = (1 << self._low) - 1, (1 << (bits - self._low)) - 1
        self._keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64).tolist()

    def __call__(self, place: int) -> int:
        if not 0 <= place < self.length:
            raise IndexError(place)
        while True:
            high, low = place >> self._low, place & self._low_mask
            for one, other in zip(self._keys[::2], self._keys[1::2], strict=True):
                high ^= _mixed(low ^ one) & self._high_mask
                low ^= _mixed(high ^ other) & self._low_mask
            place = high << self._low | low
            if place < self.length:
                return place


def _mixed(x: int) -> int:
    """32 well-mixed bits of a 64-bit number (the end of SplitMix64)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x >> 32


class WindowedOrder:
    """Each sample once: the shards in a drawn order, and of what lies in a window of them anything may be next.

    A window covers neighbouring bytes of few shards, so that reading is nearly sequential.

    Args:
        counts: samples in each shard.
        window: samples that are shuffled together.
        key: seed and epoch.
    """

    def __init__(self, counts: Sequence[int], window: int, *key: int) -> None:
        self._key, self._window = key, max(1, window)
        starts = [0, *accumulate(counts)]
        self.length = starts[-1]
        shuffled = [Permutation(len(counts), *key)(place) for place in range(len(counts))]
        self._ends = list(accumulate(counts[shard] for shard in shuffled))
        # what lies between a place in the shuffled shards and the index of that sample
        self._shift = [starts[shard + 1] - end for shard, end in zip(shuffled, self._ends, strict=True)]
        self._current = -1

    def __call__(self, position: int) -> int:
        window, place = divmod(position, self._window)
        first = window * self._window
        if window != self._current:
            self._within = Permutation(min(self._window, self.length - first), *self._key, window)
            self._current = window
        place = first + self._within(place)
        return place + self._shift[bisect_right(self._ends, place)]


class ShuffledOrder:
    """Of a set that fits into memory: a permutation of all of it."""

    def __init__(self, length: int, *key: int) -> None:
        self._order = np.random.default_rng(list(key)).permutation(length)

    def __call__(self, position: int) -> int:
        return int(self._order[position])
