"""Items that are drawn from the whole catalog are negatives beside those of the batch."""

import dataclasses

import numpy as np
import pytest
import torch

from qarm_features.alignment.known_pairs import KnownPairs, pair_keys
from qarm_features.alignment.loss import LogPopularity, UniformNegatives, contrastive_loss, no_negatives_of
from tests.alignment.test_loss import unit

TEMPERATURE = 0.2


def drawn_items(marks: np.ndarray | None = None, **more) -> UniformNegatives:
    """Returns two drawn items of a catalog of 10."""
    marks = np.zeros((3, 2), bool) if marks is None else marks
    both = torch.from_numpy(marks)
    return UniformNegatives(unit(2, 4, seed=5), both, both, num_items=10, **more)


def written_out(score: np.ndarray, correction: np.ndarray, left_out: np.ndarray) -> float:
    """Returns the mean cross-entropy of rows whose positive is on the diagonal, as a sum of single terms."""
    total = 0.0
    for i, row in enumerate(score):
        weights = [np.exp(row[j] - correction[i, j]) for j in range(len(row)) if j == i or not left_out[i, j]]
        total -= np.log(np.exp(row[i] - correction[i, i]) / sum(weights))
    return total / len(score)


@pytest.mark.parametrize("power", [None, 0.0, 0.5, 1.0])
def test_an_item_counts_as_often_as_both_draws_together_expect(power):
    trigger, target = unit(3, 4, seed=0), unit(3, 4, seed=1)
    popularity = LogPopularity(torch.tensor([0.2, 0.5, 0.3]).log(), torch.tensor([0.6, 0.3, 0.1]).log())
    of_drawn = LogPopularity(torch.tensor([0.05, 0.4]).log(), torch.tensor([0.01, 0.2]).log())
    marks = np.array([[False, False], [True, False], [False, False]])
    uniform = drawn_items(marks, log_popularity=of_drawn)

    loss = contrastive_loss(
        trigger, target, temperature=torch.tensor(TEMPERATURE), log_popularity=popularity, popularity_power=power,
        uniform=uniform,
    )  # fmt: skip

    left_out = np.concatenate([np.zeros((3, 3), bool), marks], 1)
    found = []
    for one, other, own, drawn in (
        (trigger, target, popularity.target, of_drawn.target),
        (target, trigger, popularity.trigger, of_drawn.trigger),
    ):
        score = torch.cat([one @ other.T, one @ uniform.embeddings.T], 1).numpy() / TEMPERATURE
        share = np.exp(np.concatenate([own.numpy(), drawn.numpy()]))
        number_drawn = (~marks).sum(1)
        expected = np.array([2 * share + number / 10 for number in number_drawn])  # two other pairs in a batch of three
        correction = np.log(expected) * (1 if power is None else power)
        if power is not None:
            correction[range(3), range(3)] = 0  # the positive is spared
        found.append(written_out(score, correction, left_out))
    assert loss.item() == pytest.approx(np.mean(found), abs=1e-6)


def test_without_a_correction_drawn_items_are_as_any_other_negative():
    trigger, target, uniform = unit(3, 4, seed=0), unit(3, 4, seed=1), drawn_items()

    loss = contrastive_loss(trigger, target, temperature=torch.tensor(TEMPERATURE), uniform=uniform)

    label, more = torch.arange(3), uniform.embeddings
    directions = (torch.cat([a @ b.T, a @ more.T], 1) / TEMPERATURE for a, b in ((trigger, target), (target, trigger)))
    expected = sum(torch.nn.functional.cross_entropy(logits, label) for logits in directions) / 2
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_rejected_item_that_is_drawn_is_no_negative():
    trigger, target, uniform = unit(3, 4, seed=0), unit(3, 4, seed=1), drawn_items()
    temperature = torch.tensor(TEMPERATURE)
    absent = uniform._replace(embeddings=torch.zeros_like(uniform.embeddings))

    with_absent = contrastive_loss(trigger, target, temperature=temperature, uniform=absent)

    assert with_absent.item() == pytest.approx(
        contrastive_loss(trigger, target, temperature=temperature).item(), abs=1e-6
    )


def test_no_item_is_its_own_negative_nor_that_of_an_item_that_it_is_paired_with():
    known = KnownPairs(pair_keys(np.array([0]), np.array([4]), 6), 6)

    marks = no_negatives_of(np.array([0, 1]), np.array([0, 2, 4, 5]), np.array([2, 3]), known)

    assert marks.tolist() == [[True, True, True, False], [False, False, False, False]]


def test_a_number_below_0_is_refused():
    from qarm_features.alignment import AlignmentOptions

    with pytest.raises(ValueError, match="uniform_negatives is -1, must be at least 0"):
        dataclasses.replace(AlignmentOptions(), uniform_negatives=-1)
