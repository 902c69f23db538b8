"""The contrastive loss equals a softmax written out in numpy, and false negatives are left out."""

import numpy as np
import pytest
import torch

from qarm_features.alignment.known_pairs import KnownPairs, pair_keys
from qarm_features.alignment.loss import LogPopularity, _nats, bounded_temperature, contrastive_loss, false_negatives


def unit(*shape: int, seed: int) -> torch.Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=-1)


def written_out(trigger, target, temperature, left_out, log_trigger, log_target, weight) -> float:
    """Returns the sum of single terms, as the paper writes it."""
    rows = len(trigger)
    score = trigger @ target.T / temperature
    total = 0.0
    for i in range(rows):
        row = [np.exp(score[i, j] - log_target[j]) for j in range(rows) if j == i or not left_out[i, j]]
        column = [np.exp(score[j, i] - log_trigger[j]) for j in range(rows) if j == i or not left_out[j, i]]
        total -= weight[i] * np.log(np.exp(score[i, i] - log_target[i]) / sum(row)) / 2
        total -= weight[i] * np.log(np.exp(score[i, i] - log_trigger[i]) / sum(column)) / 2
    return total / sum(weight)


def test_it_is_the_softmax_written_out():
    trigger, target = unit(4, 3, seed=0), unit(4, 3, seed=1)
    left_out = np.zeros((4, 4), dtype=bool)
    left_out[0, 2] = left_out[3, 1] = True
    popularity = LogPopularity(torch.tensor([0.1, 0.2, 0.3, 0.4]).log(), torch.tensor([0.4, 0.1, 0.1, 0.4]).log())
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)

    loss = contrastive_loss(
        trigger, target, temperature=torch.tensor(0.2), false_negatives=torch.from_numpy(left_out),
        log_popularity=popularity, weight=weight,
    )  # fmt: skip

    expected = written_out(
        trigger.numpy(), target.numpy(), 0.2, left_out, popularity.trigger.numpy(), popularity.target.numpy(),
        weight.numpy(),
    )  # fmt: skip
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_with_a_power_negatives_are_corrected_and_the_positive_is_not():
    trigger, target = unit(3, 3, seed=0), unit(3, 3, seed=1)
    popularity = LogPopularity(torch.tensor([0.1, 0.2, 0.7]).log(), torch.tensor([0.5, 0.3, 0.2]).log())
    left_out = torch.zeros(3, 3, dtype=torch.bool)
    left_out[0, 2] = True

    loss = contrastive_loss(
        trigger, target, temperature=torch.tensor(0.2), log_popularity=popularity, popularity_power=0.5,
        false_negatives=left_out, weight=torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64),
    )  # fmt: skip

    e = np.exp((trigger @ target.T / 0.2).numpy())  # row 1 has weight 0 and is nowhere a negative
    trigger_0, trigger_2 = e[0, 0] / e[0, 0], e[2, 2] / (e[2, 2] + e[2, 0] / 0.5**0.5)
    target_0, target_2 = e[0, 0] / (e[0, 0] + e[2, 0] / 0.7**0.5), e[2, 2] / e[2, 2]
    expected = -np.log([trigger_0, trigger_2, target_0, target_2]).sum() / 4
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_power_1_estimates_the_softmax_over_all_items_and_no_power_starves_rare_positives():
    """Targets are drawn by popularity; the mean gradient over many batches is held against that of the whole catalog."""
    items, popularity = unit(6, 4, seed=2), torch.tensor([0.3, 0.25, 0.2, 0.15, 0.0998, 0.0002], dtype=torch.float64)
    query, rare, temperature = unit(1, 4, seed=3), 5, torch.tensor(0.5)
    generator = torch.Generator().manual_seed(0)

    def pull(power):  # on the cosine of the query with its rare target
        total = 0.0
        for _ in range(200):
            drawn = torch.multinomial(popularity, 255, replacement=True, generator=generator)
            column = torch.cat([torch.tensor([rare]), drawn])
            cosines = (query @ items[column].T).detach().requires_grad_()
            logits = torch.cat([cosines, torch.zeros(255, 256, dtype=torch.float64)]) / temperature
            left_out = torch.zeros(256, 256, dtype=torch.bool)
            left_out[0, 1:] = drawn == rare
            weight = torch.zeros(256, dtype=torch.float64)
            weight[0] = 1
            masked = logits[:1].expand(256, -1).masked_fill(left_out, float("-inf"))
            rows = _nats(masked, left_out, popularity[column].log(), power)
            (rows * weight).sum().backward()
            total += cosines.grad[0, 0].item()
        return total / 200

    cosines = (query @ items.T).requires_grad_()
    torch.nn.functional.cross_entropy(cosines / temperature, torch.tensor([rare])).backward()
    whole = cosines.grad[0, rare].item()
    assert pull(1.0) == pytest.approx(whole, rel=0.05)
    assert abs(pull(None)) < abs(whole) / 2


def test_a_power_needs_popularities_and_is_a_share():
    trigger = unit(2, 3, seed=0)
    with pytest.raises(ValueError, match="popularity_power is 0.5, must be from 0 to 1, beside log_popularity"):
        contrastive_loss(trigger, trigger, temperature=torch.tensor(0.1), popularity_power=0.5)


def test_without_options_it_is_the_cross_entropy_of_both_directions():
    trigger, target = unit(5, 3, seed=0), unit(5, 3, seed=1)
    logits, label = trigger @ target.T / 0.5, torch.arange(5)

    loss = contrastive_loss(trigger, target, temperature=torch.tensor(0.5))

    both = torch.nn.functional.cross_entropy(logits, label) + torch.nn.functional.cross_entropy(logits.T, label)
    assert loss.item() == pytest.approx(both.item() / 2, abs=1e-6)


def test_a_pair_of_weight_0_is_as_if_it_were_not_there():
    trigger, target = unit(4, 3, seed=0), unit(4, 3, seed=1)
    temperature = torch.tensor(0.1)

    loss = contrastive_loss(trigger, target, temperature=temperature, weight=torch.tensor([1.0, 1.0, 0.0, 1.0]))

    kept = [0, 1, 3]
    assert loss.item() == pytest.approx(contrastive_loss(trigger[kept], target[kept], temperature=temperature).item())


def test_without_any_pair_the_loss_and_its_gradient_are_0():
    trigger = unit(2, 3, seed=0).requires_grad_()

    loss = contrastive_loss(trigger, unit(2, 3, seed=1), temperature=torch.tensor(0.1), weight=torch.zeros(2))
    loss.backward()

    assert loss.item() == 0
    assert torch.equal(trigger.grad, torch.zeros(2, 3))


def test_false_negatives_share_an_item_with_the_pair_or_are_known():
    """The pairs are 0-5, 0-6, 1-5, 2-0 and 3-7; in addition, 7 is known as a target of 1."""
    trigger, target = np.array([0, 0, 1, 2, 3]), np.array([5, 6, 5, 0, 7])
    known = KnownPairs(pair_keys(np.array([7]), np.array([1]), 10), 10)

    marks = false_negatives(trigger, target, known)

    expected = [
        [1, 1, 1, 1, 0],  # 0: its own 5, its other target 6, 5 again, itself
        [1, 1, 0, 1, 0],
        [1, 0, 1, 0, 1],  # 1: 5 twice, and 7 is known
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    assert marks.astype(int).tolist() == expected


def test_known_pairs_are_found_in_both_directions_and_at_every_place():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 30, 40), rng.integers(0, 30, 40)
    index, candidates = rng.integers(0, 30, 20), rng.integers(0, 30, 25)
    pairs = set(zip(one.tolist(), other.tolist())) | set(zip(other.tolist(), one.tolist()))

    rows, columns = KnownPairs(pair_keys(one, other, 30), 30).among(index, candidates)

    expected = {(r, c) for r in range(20) for c in range(25) if (int(index[r]), int(candidates[c])) in pairs}
    assert set(zip(rows.tolist(), columns.tolist())) == expected
    assert len(rows) == len(expected)


@pytest.mark.parametrize(("value", "expected"), [(0.001, 0.01), (0.07, 0.07), (5.0, 1.0)])
def test_the_temperature_stays_within_its_bounds(value, expected):
    assert bounded_temperature(torch.tensor(value).log()).item() == pytest.approx(expected)
