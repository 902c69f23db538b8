"""Bytes of a recording become a waveform, safely: WAV, FLAC and OGG, their length checked before decoding.

In: bytes that anyone may have written. Out: one channel at the rate asked for, or the reason why not. Resampling is by
Fourier transform in NumPy, so no further package is needed.
"""

from __future__ import annotations

import io
import math

import numpy as np

from qarm_features.fusion.tokens import BrokenContent

_BLOCK_FRAMES = 16_384
_MAX_CHANNELS = 32
_MIN_RATE, _MAX_RATE = 1_000, 384_000  # Hz


def decode_sound(content: bytes, *, sample_rate: int, max_seconds: float, clip_seconds: float) -> np.ndarray:
    """Decodes the start of a recording.

    Args:
        content: The file.
        sample_rate: Hz of the result.
        max_seconds: A recording whose header claims more is refused undecoded.
        clip_seconds: Seconds decoded, from the start.

    Returns:
        (samples,) float32 in [-1, 1], the mean of the channels.

    Raises:
        BrokenContent: It is of another format, too long, empty, truncated or damaged.
        ImportError: soundfile is not installed.
    """
    soundfile = _soundfile()
    kind = _kind(content)
    if kind == "WAV":
        _check_wav_length(content, max_seconds)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as recording:
            _check_header(recording, max_seconds)
            wanted = min(recording.frames, math.ceil(clip_seconds * recording.samplerate))
            mono, rate = _read_mono(recording, wanted), recording.samplerate
    except soundfile.LibsndfileError:
        raise BrokenContent("audio is truncated or damaged") from None
    if len(mono) == 0:
        raise BrokenContent("audio is empty")
    if len(mono) < wanted:
        raise BrokenContent("audio is truncated or damaged")
    if not np.isfinite(mono).all():
        raise BrokenContent("audio holds NaN or infinity")
    return resample(mono.clip(-1, 1), rate, sample_rate)[: math.ceil(clip_seconds * sample_rate)]


def resample(waveform: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Changes the rate of a waveform by cutting or padding its spectrum: linear phase, nothing aliased.

    Args:
        waveform: (samples,) float32.
        rate: Its rate, Hz.
        target_rate: The new rate, Hz.

    Returns:
        (ceil(samples * target_rate / rate),) float32.

    Source: as ``scipy.signal.resample``, on the waveform padded by zeros so that its end does not ring into its start.
    """
    if rate == target_rate:
        return waveform.astype(np.float32)
    shared = math.gcd(rate, target_rate)
    step, target_step = rate // shared, target_rate // shared
    periods = math.ceil((len(waveform) + 0.05 * rate) / step)
    spectrum = np.fft.rfft(waveform, periods * step)
    target = periods * target_step
    kept = min(len(spectrum), target // 2 + 1)
    resampled = np.fft.irfft(spectrum[:kept], target) * (target_step / step)
    return resampled[: math.ceil(len(waveform) * target_rate / rate)].astype(np.float32)


def _soundfile():
    try:
        import soundfile
    except ImportError as error:
        raise ImportError(
            "soundfile is not installed, must be for audio. Run: pip install 'qarm-features[audio]'"
        ) from (error)
    return soundfile


def _kind(content: bytes) -> str:
    """Names the format by the first bytes, so that libsndfile's other parsers never see foreign input."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return "WAV"
    if content[:4] in (b"fLaC", b"OggS"):
        return "FLAC" if content[:4] == b"fLaC" else "OGG"
    raise BrokenContent("audio is not WAV, FLAC or OGG")


def _check_wav_length(content: bytes, max_seconds: float) -> None:
    """Compares the length that the header claims with the file's, which libsndfile puts right in silence."""
    at, bytes_per_second = 12, 0
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name == b"fmt ":
            bytes_per_second = int.from_bytes(content[at + 16 : at + 20], "little")
        if name == b"data":
            if size > max_seconds * bytes_per_second:
                raise BrokenContent(f"audio is longer than {max_seconds:g} seconds")
            if at + 8 + size > len(content):
                break
            return
        at += 8 + size + size % 2
    raise BrokenContent("audio is truncated or damaged")


def _check_header(recording, max_seconds: float) -> None:
    if not _MIN_RATE <= recording.samplerate <= _MAX_RATE:
        raise BrokenContent(f"audio has a sample rate outside {_MIN_RATE} to {_MAX_RATE} Hz")
    if recording.channels > _MAX_CHANNELS:
        raise BrokenContent(f"audio has more than {_MAX_CHANNELS} channels")
    if recording.frames > max_seconds * recording.samplerate:
        raise BrokenContent(f"audio is longer than {max_seconds:g} seconds")


def _read_mono(recording, frames: int) -> np.ndarray:
    """Reads at most ``frames`` frames block by block; memory follows one channel of the clip."""
    blocks, read = [], 0
    while read < frames:
        block = recording.read(min(_BLOCK_FRAMES, frames - read), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block.mean(1))
        read += len(block)
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)
