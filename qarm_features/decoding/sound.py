"""Decode WAV, FLAC and OGG recordings safely: the length of a recording is checked before it is decoded.

In: bytes from an untrusted source. Out: one channel at the requested sample rate, or the reason why the bytes were
refused. NumPy resamples by Fourier transform, so no further package is needed.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np

from qarm_features.decoding.broken_content import BrokenContent
from qarm_features.extras import naming_extra

if TYPE_CHECKING:
    from soundfile import SoundFile

_BLOCK_FRAMES = 16_384
_MAX_CHANNELS = 32
_MIN_RATE, _MAX_RATE = 1_000, 384_000  # Hz
_BYTES_OF_A_SAMPLE = 40  # blocks, waveform and spectrum, before and after resampling


def decode_sound(
    content: bytes, *, sample_rate: int, max_seconds: float, clip_seconds: float, max_bytes: int = 400_000_000
) -> np.ndarray:
    """Decode the start of a recording.

    Args:
        content: Bytes of the file.
        sample_rate: Sample rate of the result, in Hz.
        max_seconds: Greatest length in seconds; a recording whose header names more is refused without being decoded.
        clip_seconds: Length of the decoded clip from the start of the recording, in seconds.
        max_bytes: Greatest number of bytes that decoding may need.

    Returns:
        Waveform (samples,) float32 in [-1, 1], the mean of the channels.

    Raises:
        BrokenContent: The recording has another format, is too long, needs too many bytes, or is empty, truncated or damaged.
        ImportError: The package soundfile is not installed.
    """
    with naming_extra("Audio encoders", "audio"):
        import soundfile
    if _format_name(content) == "WAV":
        _check_wav_length(content, max_seconds)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as recording:
            _check_header(recording, max_seconds)
            rate = recording.samplerate
            wanted = min(recording.frames, math.ceil(clip_seconds * rate))
            if _BYTES_OF_A_SAMPLE * wanted * max(1, sample_rate / rate) > max_bytes:
                raise BrokenContent(f"audio needs more than {max_bytes} bytes to decode")
            mono = _read_mono(recording, wanted)
    except (BrokenContent, MemoryError):
        raise
    except Exception:  # libsndfile and soundfile raise several types on damaged input
        raise BrokenContent("audio is truncated or damaged") from None
    if len(mono) == 0:
        raise BrokenContent("audio is empty")
    if len(mono) < wanted:
        raise BrokenContent("audio is truncated or damaged")
    if not np.isfinite(mono).all():
        raise BrokenContent("audio holds NaN or infinity")
    return resample(mono.clip(-1, 1), rate, sample_rate)[: math.ceil(clip_seconds * sample_rate)]


def resample(waveform: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Change the sample rate of a waveform by cutting or padding its spectrum, without aliasing.

    The method is that of ``scipy.signal.resample``. The waveform is padded with zeros first, because the spectrum is
    periodic and the end would otherwise leak into the start.

    Args:
        waveform: Waveform (samples,) float32.
        rate: Sample rate of the waveform, in Hz.
        target_rate: Sample rate of the result, in Hz.

    Returns:
        Waveform (ceil(samples * target_rate / rate),) float32.
    """
    if rate == target_rate:
        return waveform.astype(np.float32)
    shared = math.gcd(rate, target_rate)
    step, target_step = rate // shared, target_rate // shared
    periods = math.ceil((len(waveform) + 0.05 * rate) / step)
    spectrum = np.fft.rfft(waveform, periods * step)
    target = periods * target_step
    num_bins = min(len(spectrum), target // 2 + 1)
    resampled = np.fft.irfft(spectrum[:num_bins], target) * (target_step / step)
    return resampled[: math.ceil(len(waveform) * target_rate / rate)].astype(np.float32)


def _format_name(content: bytes) -> str:
    """Return the format that the first bytes show, so that no other parser of libsndfile reads untrusted bytes."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return "WAV"
    if content[:4] in (b"fLaC", b"OggS"):
        return "FLAC" if content[:4] == b"fLaC" else "OGG"
    raise BrokenContent("audio is not WAV, FLAC or OGG")


def _check_wav_length(content: bytes, max_seconds: float) -> None:
    """Compare the length in the header with the length of the file; libsndfile would correct it without an error."""
    offset, bytes_per_second = 12, 0
    while offset + 8 <= len(content):
        name, size = content[offset : offset + 4], int.from_bytes(content[offset + 4 : offset + 8], "little")
        if name == b"fmt ":
            bytes_per_second = int.from_bytes(content[offset + 16 : offset + 20], "little")
        if name == b"data":
            if size > max_seconds * bytes_per_second:
                raise BrokenContent(f"audio is longer than {max_seconds:g} seconds")
            if offset + 8 + size > len(content):
                break
            return
        offset += 8 + size + size % 2
    raise BrokenContent("audio is truncated or damaged")


def _check_header(recording: SoundFile, max_seconds: float) -> None:
    if not _MIN_RATE <= recording.samplerate <= _MAX_RATE:
        raise BrokenContent(f"audio has a sample rate outside {_MIN_RATE} to {_MAX_RATE} Hz")
    if recording.channels > _MAX_CHANNELS:
        raise BrokenContent(f"audio has more than {_MAX_CHANNELS} channels")
    if recording.frames > max_seconds * recording.samplerate:
        raise BrokenContent(f"audio is longer than {max_seconds:g} seconds")


def _read_mono(recording: SoundFile, frames: int) -> np.ndarray:
    """Read at most ``frames`` frames in blocks and average their channels, so that memory holds one channel only."""
    blocks: list[np.ndarray] = []
    read = 0
    while read < frames:
        block = recording.read(min(_BLOCK_FRAMES, frames - read), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block.mean(1))
        read += len(block)
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)
