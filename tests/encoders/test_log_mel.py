"""Log-mel frames, their masks and their augmentation have the values that a calculation by hand gives."""

import math

import numpy as np
import torch

from qarm_features.encoders.log_mel import HOP, SAMPLE_RATE, hertz_to_mel, log_mel, mel_filters, mel_to_hertz
from qarm_features.encoders.log_mel_transformer import augment_frames, count_tokens, pad_frames, standardize
from tests.decoding.media_files import tone


def test_a_thousand_hertz_are_a_thousand_mel():
    assert round(float(hertz_to_mel(1000))) == 1000
    np.testing.assert_allclose(mel_to_hertz(hertz_to_mel([0, 440, 8000])), [0, 440, 8000], atol=1e-9)


def test_filters_are_triangles_whose_peaks_rise_and_which_cover_every_frequency_between():
    filters = mel_filters()

    assert filters.shape == (64, 513)
    assert (filters.argmax(1).diff() >= 0).all() and (filters.amax(1) > 0.5).all()
    assert (filters[:, 5:500].sum(0) > 0.4).all()


def test_a_tone_is_loudest_in_the_band_of_its_frequency():
    for hertz in (200, 1000, 5000):
        frames = log_mel(torch.from_numpy(tone(hertz, 1)))
        edges = mel_to_hertz(np.linspace(hertz_to_mel(50), hertz_to_mel(11_025), 66))
        band = int(frames[:, 25].argmax())

        assert edges[band] <= hertz <= edges[band + 2]


def test_silence_is_the_floor_and_ten_times_the_amplitude_is_log_100_more():
    waveform = torch.from_numpy(tone(1000, 1))
    difference = log_mel(waveform).amax(0)[5:-5] - log_mel(waveform / 10).amax(0)[5:-5]

    assert torch.equal(log_mel(torch.zeros(SAMPLE_RATE)), torch.full((64, 51), math.log(torch.tensor(1e-6).item())))
    torch.testing.assert_close(difference, torch.full_like(difference, math.log(100)), atol=0.01, rtol=0)


def test_frames_count_from_the_first_sample_even_of_the_shortest_clip():
    counts = [log_mel(torch.zeros(samples)).shape for samples in (1, HOP - 1, HOP, 2 * HOP, SAMPLE_RATE)]

    assert counts == [(64, 1), (64, 1), (64, 2), (64, 3), (64, 51)]


def test_clips_are_padded_cut_and_counted():
    frames, lengths = pad_frames([torch.ones(64, 3), torch.ones(64, 20)], 16)

    assert frames.sum((1, 2)).tolist() == [64 * 3, 64 * 16]
    assert lengths.tolist() == [3, 16]
    assert count_tokens(lengths).tolist() == [1, 2] and count_tokens(17) == 3


def test_standardizing_looks_only_at_what_stands():
    frames, lengths = pad_frames([torch.randn(64, 50) * 3 - 7, torch.randn(64, 10)], 64)

    standard = standardize(frames, lengths)

    for row, length in enumerate((50, 10)):
        stands = standard[row, :, :length]
        assert abs(stands.mean()) < 1e-5 and abs(stands.std() - 1) < 0.02
        assert not standard[row, :, length:].any()


def test_augmenting_shifts_a_clip_within_itself_and_masks_a_part_of_it():
    torch.manual_seed(0)
    frames = torch.arange(1, 41.0).repeat(200, 64, 1)
    frames[:, :, 30:] = 0

    augmented = augment_frames(frames, torch.full((200,), 30))

    assert not augmented[:, :, 30:].any()
    kept = augmented[:, :, :30]
    share = (kept == 0).float().mean((1, 2))
    assert 0.1 < share.mean() < 0.45 and share.max() < 0.75
    firsts = {int(value) for value in kept[:, :, 0].flatten() if value > 0}
    assert len(firsts) > 20
    middle = kept[:, 32, 1:] - kept[:, 32, :-1]
    neighbors = (kept[:, 32, 1:] > 0) & (kept[:, 32, :-1] > 0)
    assert set(middle[neighbors].tolist()) == {1.0, -29.0}
