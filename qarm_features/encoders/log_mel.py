"""Compute log-mel frames of a waveform: logarithms of the power in frequency bands on the mel scale.

In: a waveform of one channel. Out: frames (bands, frames).
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

SAMPLE_RATE = 22_050  # Hz
HOP = 441  # samples: 20 ms
NUM_BANDS = 64
_WINDOW = 1_024  # samples: 46 ms
_LOWEST, _HIGHEST = 50.0, 11_025.0  # Hz
_FLOOR = 1e-6  # -60 dB of a full-scale sine; without it, digital silence would dominate the scale of a clip


def log_mel(waveform: Tensor) -> Tensor:
    """Compute log-mel energies.

    Args:
        waveform: (samples,) float32 in [-1, 1] at ``SAMPLE_RATE``.

    Returns:
        Frames (bands, 1 + samples // HOP) float32: natural logarithms of the power in a band; log(1e-6) for silence.
    """
    missing = max(0, _WINDOW - len(waveform))  # torch.stft reflects the edges, which needs more than half a window
    padded = torch.nn.functional.pad(waveform, (0, missing))
    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(padded, _WINDOW, HOP, window=window, return_complex=True)
    power = spectrum.abs().square() / window.sum().square()
    frames = 1 + len(waveform) // HOP
    return (mel_filters() @ power[:, :frames] + _FLOOR).log()


@functools.lru_cache(maxsize=1)
def mel_filters() -> Tensor:
    """Return triangular filters (bands, bins) that rise from one center to the next, evenly spaced in mel.

    Source: mel = 2595 log10(1 + Hz / 700), O'Shaughnessy 1987; the triangles have height 1, as in HTK.
    """
    edges = mel_to_hertz(np.linspace(hertz_to_mel(_LOWEST), hertz_to_mel(_HIGHEST), NUM_BANDS + 2))
    bins = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
    # The lowest filters would be narrower than one bin and could contain none, so each slope is at least one bin wide.
    width = SAMPLE_RATE / _WINDOW
    rising = (bins - edges[:-2, None]) / np.maximum(np.diff(edges)[:-1, None], width)
    falling = (edges[2:, None] - bins) / np.maximum(np.diff(edges)[1:, None], width)
    return torch.from_numpy(np.minimum(rising, falling).clip(0, 1).astype(np.float32))


def hertz_to_mel(hertz: ArrayLike) -> np.ndarray:
    """Return 2595 log10(1 + hertz / 700), so that 1,000 Hz are 1,000 mel.

    Args:
        hertz: Frequencies of any shape, in Hz, at least 0.

    Returns:
        An array of the same shape, in mel.
    """
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def mel_to_hertz(mel: ArrayLike) -> np.ndarray:
    """Return the frequencies in Hz of values in mel: the inverse of ``hertz_to_mel``.

    Args:
        mel: Values of any shape, in mel.

    Returns:
        An array of the same shape, in Hz.
    """
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
