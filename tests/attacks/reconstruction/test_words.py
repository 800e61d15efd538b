"""Words of a report from the gradient of the map on its hashed n-grams."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attacks.reconstruction.linear import linear_input
from attacks.reconstruction.priors import commonest, largest
from attacks.reconstruction.words import buckets_of, phrases_in, recovery


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_every_bucket_is_recovered_from_a_plain_gradient(seed: int, count: int) -> None:
    torch.manual_seed(seed)
    truth = torch.zeros(64, dtype=torch.bool)
    truth[torch.randperm(64)[:count]] = True
    layer = nn.Linear(64, 8)
    report = truth.float() / truth.sum().sqrt()
    layer(report[None]).pow(2).sum().backward()
    direction = linear_input(layer.weight.grad, layer.bias.grad).direction
    hit = recovery(buckets_of(direction), truth)
    assert (hit.precision, hit.recall, hit.f1) == (1, 1, 1)


def test_phrases_need_all_their_buckets() -> None:
    found = np.array([True, True, False, True])
    phrases = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    assert phrases_in(found, phrases).tolist() == [True, False, True, False]


def test_recovery_counts() -> None:
    hit = recovery([True, True, False, False], [True, False, True, True])
    assert (hit.precision, hit.recall) == (1 / 2, 1 / 3)
    assert recovery([False], [True]).precision == 0
    assert recovery([False], [False]).recall == 1


def test_nothing_positive_means_nothing_found() -> None:
    assert not buckets_of([-1.0, 0.0, -2.0]).any()


def test_the_prior_names_the_commonest() -> None:
    public = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1]])
    assert commonest(public, 2).tolist() == [True, False, True]
    assert largest([1.0, 1.0, 1.0], 1).tolist() == [True, False, False]
