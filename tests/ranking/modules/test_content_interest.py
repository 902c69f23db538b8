"""ContentInterest: target attention in content space with LoRA projections."""

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional

from qarm_features.ranking.modules.content_interest import ContentInterest

NAMES = ("query", "key", "value")


def trained_interest(**options) -> ContentInterest:
    """D = 6, D_out = 4, H = 2; LoRA factors as after some training."""
    torch.manual_seed(0)
    interest = ContentInterest(6, 4, num_heads=2, **options)
    for name, parameter in interest.named_parameters():
        if "lora_b" in name:
            nn.init.normal_(parameter)
    return interest


def random_contents(batch: int = 3, length: int = 5, dim: int = 6):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(batch, dim, generator=generator)
    behavior = torch.randn(batch, length, dim, generator=generator)
    return target, behavior, torch.arange(length) < torch.tensor([[length], [2], [1]])


def unfolded(query, key, value, target, behavior, mask, *, num_heads=2):
    """The plain formula: projects every behavior."""
    q = query(target).unflatten(1, (1, num_heads, -1)).transpose(1, 2)  # (B, H, 1, D_out / H)
    k = key(behavior).unflatten(2, (num_heads, -1)).transpose(1, 2)
    v = value(behavior).unflatten(2, (num_heads, -1)).transpose(1, 2)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None]).flatten(1)


def linear(weight):
    return lambda rows: functional.linear(rows, weight)


@pytest.mark.parametrize("rank", [2, None])
def test_folding_equals_projecting_every_behavior(rank):
    interest = trained_interest(rank=rank)
    inputs = random_contents()

    attended = interest(*inputs)

    weights = [linear(getattr(interest, name).merged_weight()) for name in NAMES]
    torch.testing.assert_close(attended, unfolded(*weights, *inputs))


def test_it_equals_peft_lora_layers_with_torch_attention_gradients_included():
    interest = trained_interest(rank=2, alpha=6.0)
    inputs = random_contents()
    layers = nn.ModuleDict({f"{name}_proj": nn.Linear(6, 4, bias=False) for name in NAMES})
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=list(layers))
    layers = peft.inject_adapter_in_model(config, layers)
    with torch.no_grad():
        for name in NAMES:
            theirs, ours = layers[f"{name}_proj"], getattr(interest, name)
            theirs.base_layer.weight.copy_(ours.weight)
            theirs.lora_A["default"].weight.copy_(ours.lora_a)
            theirs.lora_B["default"].weight.copy_(ours.lora_b)

    attended = interest(*inputs)
    attended.square().sum().backward()

    expected = unfolded(*layers.values(), *inputs)
    expected.square().sum().backward()
    torch.testing.assert_close(attended, expected)
    for name in NAMES:
        theirs, ours = layers[f"{name}_proj"], getattr(interest, name)
        torch.testing.assert_close(ours.lora_a.grad, theirs.lora_A["default"].weight.grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.lora_b.grad, theirs.lora_B["default"].weight.grad, rtol=1e-4, atol=1e-4)
        assert ours.weight.grad is None


def saved_bytes(call) -> int:
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = call()
    assert output.requires_grad
    return sum(size for size, _ in storages.values())


def test_a_thousand_behaviors_keep_less_memory_for_the_backward_pass():
    interest = ContentInterest(64, 64, num_heads=4)
    inputs = random_contents(length=1000, dim=64)

    folded = saved_bytes(lambda: interest(*inputs))

    def plain():
        weights = [linear(getattr(interest, name).merged_weight()) for name in NAMES]
        return unfolded(*weights, *inputs, num_heads=4)

    projected = 3 * 1000 * 64 * 4  # bytes of one (B, T, D_out)
    assert folded < saved_bytes(plain) - projected


def test_a_user_without_behavior_gets_exactly_zero_and_finite_gradients():
    interest = trained_interest(rank=2)
    target, behavior, mask = random_contents()

    attended = interest(target, behavior, torch.zeros_like(mask))
    attended.sum().backward()

    assert attended.tolist() == [[0.0] * 4] * 3
    assert torch.isfinite(interest.key.lora_a.grad).all()


def test_padding_changes_nothing_in_the_interest():
    interest = trained_interest(rank=2)
    target, behavior, mask = random_contents()
    more = torch.cat([torch.full((3, 7, 6), 50.0), behavior], dim=1)

    attended = interest(target, more, functional.pad(mask, (7, 0)))

    torch.testing.assert_close(attended, interest(target, behavior, mask))


@pytest.mark.parametrize("name", ["dim", "output_dim", "num_heads", "rank"])
def test_interest_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0, must be at least 1"):
        ContentInterest(**({"dim": 4, "output_dim": 4} | {name: 0}))


def test_heads_that_do_not_divide_the_output_are_refused():
    with pytest.raises(ValueError, match="output_dim is 5, must be a multiple of num_heads = 4"):
        ContentInterest(4, 5)


@pytest.mark.parametrize("rank", [2, None])
@pytest.mark.parametrize("users", [3, 1])
def test_keys_and_values_per_item_give_what_behaviors_one_by_one_give_gradients_included(rank, users):
    interest = trained_interest(rank=rank).double()
    content = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    target = torch.tensor([0, 6, 0])
    behavior = torch.tensor([[1, 2, 3, 3, 0], [4, 5, 0, 0, 0], [6, 0, 0, 0, 0]])[:users]
    mask = torch.arange(5) < torch.tensor([[5], [2], [0]])[:users]

    of_items = interest.of_items(content, target, behavior, mask)

    one_by_one = interest(content[target], content[behavior].expand(3, -1, -1), mask.expand(3, -1))
    torch.testing.assert_close(of_items, one_by_one)
    weights = [content, *(weight for weight in interest.parameters() if weight.requires_grad)]
    ours, expected = (torch.autograd.grad(attended.square().sum(), weights) for attended in (of_items, one_by_one))
    torch.testing.assert_close(ours, expected)


def test_over_an_identity_it_starts_by_averaging_the_content_of_behaviors():
    interest = ContentInterest(6, 6, num_heads=2, base="identity")
    behavior = torch.eye(6)[:4].unsqueeze(0)

    attended = interest(torch.zeros(1, 6), behavior, torch.ones(1, 4, dtype=torch.bool))

    assert attended.tolist() == [[0.25, 0.25, 0.25, 0.25, 0.0, 0.0]]  # a target of zeros is as near to all of them
    assert [name for name, weight in interest.named_parameters() if not weight.requires_grad] == [
        "query.weight",
        "key.weight",
        "value.weight",
    ]
