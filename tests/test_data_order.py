"""The order of an epoch: a bijection that a key chooses, and the same from whichever process it is asked."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2

from makeavideo.data.order import Permutation, WindowedOrder
from makeavideo.training.batches import StepKeys, noise_seed
from tiny_training import recipe_of, settings


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 17, 64, 65, 1000, 4097])
def test_it_is_a_bijection_and_another_one_for_another_key(length):
    orders = [[Permutation(length, 3, epoch)(place) for place in range(length)] for epoch in range(3)]
    assert all(sorted(order) == list(range(length)) for order in orders)
    assert length < 5 or len(set(map(tuple, orders))) == 3
    with pytest.raises(IndexError):
        Permutation(length)(length)


def test_every_order_of_four_is_as_likely():
    counts = Counter(tuple(map(Permutation(4, key), range(4))) for key in range(4800))
    expected = 4800 / 24
    statistic = sum((counts[order] - expected) ** 2 / expected for order in itertools.permutations(range(4)))
    assert statistic < chi2.ppf(0.9999, 23)


def test_neighbours_are_torn_apart_in_a_large_set():
    permute = Permutation(10**9 + 7, 1)
    places = np.array([permute(place) for place in range(4000)]) / (10**9 + 7)
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.06 and abs(places.mean() - 0.5) < 0.02
    counts = np.histogram(places, 16, (0, 1))[0]
    assert ((counts - 250) ** 2 / 250).sum() < chi2.ppf(0.9999, 15)


def test_windows_take_shards_together_and_each_sample_once():
    counts = [7, 0, 12, 3, 30, 1, 9]
    order = WindowedOrder(counts, 10, 5, 0)
    found = [order(place) for place in range(62)]
    assert sorted(found) == list(range(62))
    shard_of = np.repeat(np.arange(7), counts)
    for first in range(0, 62, 10):
        window = shard_of[found[first : first + 10]]
        assert len(set(window)) <= 4
    assert found != [WindowedOrder(counts, 10, 5, 1)(place) for place in range(62)]
    scattered = WindowedOrder(counts, 10, 5, 0)  # asked in any order
    assert [scattered(place) for place in reversed(range(62))] == found[::-1]


def test_one_two_and_eight_processes_read_the_same(training_data, tmp_path):
    recipe = recipe_of(settings(tmp_path, training_data, "sr-low-image"), steps=6, batch_size=4)
    counts = [40, 13, 77]

    def batches(world, accumulation, start=0):
        of = recipe.model_copy(update={"gradient_accumulation": accumulation})
        first = start * accumulation
        each = [
            list(StepKeys(of, 130, first, rank, world, lambda *key: WindowedOrder(counts, 16, *key)))
            for rank in range(world)
        ]
        return [batch for micro_step in zip(*each, strict=True) for batch in micro_step]

    one = batches(1, 8)
    assert len(one) == 48 and batches(2, 4) == batches(8, 1) == one
    seeds = [
        [noise_seed(recipe, micro, rank, world) for micro in range(48 // world) for rank in range(world)]
        for world in (1, 2, 8)
    ]
    assert seeds[0] == seeds[1] == seeds[2] and len(set(seeds[0])) == 48
    assert batches(8, 1, start=4) == batches(2, 4, start=4) == one[32:]
