"""Items are pulled to what their residual codes of the start of an epoch decode to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from qarm_features.alignment import AlignmentOptions
from qarm_features.alignment.packing import packed
from qarm_features.alignment.residual_codes import ResidualCodes, code_loss, codes_of, fit_codebooks
from qarm_features.alignment.run import AlignmentRun
from qarm_features.alignment.training_data import TrainingData
from qarm_features.quantizers.arrays.codebooks import pad_levels
from qarm_features.torch_processes import joined_processes
from tests.alignment.planted_pairs import planted_encoder, write_planted_source

OPTIONS = AlignmentOptions(batch_size=64, micro_batch_size=32, epochs=2, patience=2, learning_rate=1e-2, num_threads=1)
TWO_LEVELS = pad_levels([np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.2, 0.0], [0.0, 0.0], [0.0, -0.2]])])


def test_codes_are_the_nearest_centroid_of_each_level_and_decode_to_their_sum():
    embeddings = torch.tensor([[1.3, 0.1], [0.1, 0.7]])

    codes = codes_of(embeddings, TWO_LEVELS)

    # (1, 0) leaves (.3, .1), nearest to (.2, 0); (0, 1) leaves (.1, -.3), nearest to (0, -.2).
    assert codes.tolist() == [[0, 0], [1, 2]]
    decoded = ResidualCodes(codes, torch.from_numpy(TWO_LEVELS)).decode(np.array([1, 0, 1]))
    assert torch.allclose(decoded, torch.tensor([[0.0, 0.8], [1.2, 0.0], [0.0, 0.8]]))


def test_the_loss_counts_each_item_once_and_no_rejected_one_and_pulls_the_embeddings_alone():
    embeddings = torch.tensor([[1.3, 0.1], [0.0, 0.0], [0.1, 0.7], [1.3, 0.1]], requires_grad=True)
    codes = ResidualCodes(torch.tensor([[0, 0], [1, 2], [0, 0]], dtype=torch.uint8), torch.from_numpy(TWO_LEVELS))

    loss = code_loss(embeddings, np.array([0, 2, 1, 0]), codes)
    loss.backward()

    assert float(loss.detach()) == pytest.approx((0.1**2 + 0.1**2 + 0.1**2 + 0.1**2) / 2)
    expected = torch.tensor([[0.05, 0.05], [0.0, 0.0], [0.1, -0.1], [0.05, 0.05]])
    assert torch.allclose(embeddings.grad, expected)
    assert float(code_loss(torch.zeros(3, 2), np.arange(3), codes)) == 0.0


def test_codes_are_those_of_the_sample_and_the_seed_and_leave_out_rejected_items():
    sample = normalize(torch.randn(500, 8, generator=torch.Generator().manual_seed(0)), dim=1)

    levels, again = (fit_codebooks(sample, seed=3) for _ in range(2))

    assert [tuple(level.shape) for level in levels] == [(64, 8)] * 3
    assert np.array_equal(levels, again)
    losses = [lost_of(sample, levels[:number]) for number in (1, 2, 3)]
    assert 1 > losses[0] > 2 * losses[1] > 4 * losses[2] > 0
    with_rejected = fit_codebooks(torch.cat([torch.zeros(50, 8), sample]), seed=3)
    assert np.array_equal(levels, with_rejected)
    assert fit_codebooks(torch.zeros(5, 8), seed=3) is None
    assert len(fit_codebooks(sample[:10], seed=3)[0]) == 10


def test_a_checkpoint_gives_back_the_codes(tmp_path):
    codes = ResidualCodes(torch.tensor([[0, 0], [1, 2]], dtype=torch.uint8), torch.from_numpy(TWO_LEVELS))
    save_file(codes._asdict(), tmp_path / "codes.safetensors")

    again = ResidualCodes(**load_file(tmp_path / "codes.safetensors"))

    assert torch.equal(again.codes, codes.codes)
    assert torch.equal(again.codebooks.nan_to_num(9), codes.codebooks.nan_to_num(9))


def lost_of(embeddings: torch.Tensor, codebooks: np.ndarray) -> float:
    """Returns the mean squared distance of embeddings to what their codes decode to."""
    codes = ResidualCodes(codes_of(embeddings, codebooks), torch.from_numpy(codebooks))
    return float(code_loss(embeddings, np.arange(len(embeddings)), codes))


class Watched(AlignmentRun):
    """Measures at the end of each epoch how far items are from what their codes decode to."""

    def _end_epoch(self, log):
        everything = np.arange(len(self.data.items))
        with torch.inference_mode():
            self.distance = float(code_loss(self.content.encode(everything), everything, self.codes))
        super()._end_epoch(log)


def test_items_stay_near_what_their_codes_of_the_start_of_the_epoch_decode_to(tmp_path):
    data, distances = TrainingData(packed(write_planted_source(tmp_path / "source")), batch_size=64), []

    for weight in (0.01, 30.0):
        with joined_processes(seed=0, num_threads=1, use_gpu=False) as processes:
            run = Watched(planted_encoder(), data, replace(OPTIONS, code_weight=weight), processes, None)
            run.train()
        distances.append(run.distance)

    assert run.codes.codes.shape == (120, 3)
    assert distances[1] < 0.3 * distances[0]


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="code_weight is -1, must be at least 0"):
        replace(AlignmentOptions(), code_weight=-1)
