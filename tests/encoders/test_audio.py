"""Untrusted recordings are decoded to log-mel frames or a waveform, or refused with a reason, and then encoded."""

import sys

import numpy as np
import pytest
import torch

from qarm_features.decoding.sound import decode_sound, resample
from qarm_features.encoders import AudioEncoder, BrokenContent
from tests.decoding.media_files import recording, tone, wav_that_claims


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return AudioEncoder("log-mel-transformer").eval()


def decode(content: bytes, **options) -> np.ndarray:
    return decode_sound(content, **{"sample_rate": 22_050, "max_seconds": 600, "clip_seconds": 5, **options})


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("WAV", {}, 1e-4), ("WAV", {"subtype": "FLOAT"}, 1e-6), ("WAVEX", {"subtype": "PCM_24"}, 1e-6),
        ("FLAC", {}, 1e-4), ("OGG", {"subtype": "VORBIS"}, 0.05), ("OGG", {"subtype": "OPUS"}, 0.1),
    ],
)  # fmt: skip
def test_each_format_becomes_its_waveform(format, options, tolerance):
    rate = 24_000 if options.get("subtype") == "OPUS" else 22_050
    content = recording(tone(440, 1, rate), rate, format, **options)

    waveform = decode(content, sample_rate=rate)

    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform[2000:-2000], tone(440, 1, rate)[2000:-2000], atol=tolerance)


def test_channels_are_averaged_and_only_the_clip_is_decoded():
    stereo = np.stack([tone(440, 3), np.zeros(3 * 22_050, np.float32)], 1)

    waveform = decode(recording(stereo, subtype="FLOAT"), clip_seconds=2)

    np.testing.assert_allclose(waveform, tone(440, 2) / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 44_101, 48_000])
def test_resampling_keeps_a_tone_whatever_the_rates(rate):
    resampled = resample(tone(440, 1, rate), rate, 16_000)

    assert len(resampled) == 16_000
    np.testing.assert_allclose(resampled[800:-800], tone(440, 1, 16_000)[800:-800], atol=2e-3)


def test_resampling_lets_nothing_alias():
    above = resample(tone(9_000, 1, 44_100), 44_100, 16_000)

    assert np.abs(above[800:-800]).max() < 2e-3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"OggS is how this text begins" * 20, "audio is truncated or damaged"),
        (b"a text that was renamed to .ogg", "audio is not WAV, FLAC or OGG"),
        (recording(tone(440, 0.1), format="AIFF"), "audio is not WAV, FLAC or OGG"),
        (recording(tone(440, 0.1), format="W64"), "audio is not WAV, FLAC or OGG"),
        (wav_that_claims(3 * 3600), "audio is longer than 600 seconds"),
        (wav_that_claims(60), "audio is truncated or damaged"),
        (recording(np.zeros(601 * 1000), 1000, "FLAC"), "audio is longer than 600 seconds"),
        (recording(tone(440, 1), format="WAV")[:-100], "audio is truncated or damaged"),
        (recording(tone(440, 1), format="FLAC")[:-2000], "audio is truncated or damaged"),
        (recording(tone(440, 1), format="OGG")[:60], "audio is truncated or damaged"),
        (recording(np.empty(0, np.float32)), "audio is empty"),
        (recording(np.full(100, np.nan, np.float32), subtype="FLOAT"), "audio holds NaN or infinity"),
        (recording(tone(440, 0.1), 999), "audio has a sample rate outside 1000 to 384000 Hz"),
        (recording(np.zeros((10, 33))), "audio has more than 32 channels"),
        (b"", "audio is empty"),
    ],
    ids=range(15),  # the serial number of an OGG file is random
)  # fmt: skip
def test_broken_recordings_are_refused(encoder, content, reason):
    with pytest.raises(BrokenContent, match=f"^{reason}$"):
        encoder.decode(content)


def test_bytes_of_chance_after_a_header_never_raise_anything_else():
    generator = np.random.default_rng(0)
    for format in ("WAV", "FLAC", "OGG"):
        good = recording(tone(440, 0.3), format=format)
        for _ in range(60):
            bad = bytearray(good)
            for at in generator.integers(4, len(bad), 8):
                bad[at] = generator.integers(256)
            try:
                assert decode(bytes(bad)).ndim == 1
            except BrokenContent as error:
                assert str(error).startswith("audio ")


def test_a_uri_must_lie_under_a_root(tmp_path, encoder):
    (tmp_path / "a.wav").write_bytes(recording(tone(440, 1)))
    rooted = AudioEncoder("log-mel-transformer", media_roots=[str(tmp_path)])

    assert rooted.decode(str(tmp_path / "a.wav")).shape == (64, 51)
    with pytest.raises(BrokenContent, match="^audio URI is outside media_roots$"):
        encoder.decode(str(tmp_path / "a.wav"))


def test_a_missing_soundfile_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)

    with pytest.raises(
        ImportError,
        match=r"Audio encoders need the package soundfile, which is not installed. Run: pip install 'qarm-feat",
    ):
        decode(recording_made_before)


recording_made_before = recording(tone(440, 0.1))


def test_tokens_cover_the_clip_and_do_not_depend_on_the_batch(encoder):
    long, short = encoder.decode(recording(tone(440, 7))), encoder.decode(recording(tone(880, 1)))

    with torch.no_grad():
        both, alone = encoder([long, short]), encoder([short])

    assert long.shape == (64, 251) and long.dtype == torch.float16
    assert both.values.shape == (2, 32, 128)
    assert both.mask.sum(1).tolist() == [32, 7]  # 251 and 51 frames, eight to a token
    torch.testing.assert_close(both.values[1, :7], alone.values[0, :7], atol=1e-5, rtol=0)


def test_a_louder_recording_has_the_same_tokens(encoder):
    generator = np.random.default_rng(0)
    noise = (0.4 * generator.normal(size=22_050)).clip(-0.5, 0.5).astype(np.float32)
    quiet, loud = (encoder.decode(recording(gain * noise, subtype="FLOAT")) for gain in (1.0, 2.0))

    with torch.no_grad():
        values = encoder([quiet, loud]).values

    torch.testing.assert_close(values[0, :7], values[1, :7], atol=0.1, rtol=0)


def test_tokens_lie_where_the_module_lies():
    tokens = AudioEncoder("log-mel-transformer").to("meta")([torch.zeros(64, 20)])

    assert tokens.values.device == tokens.mask.device == torch.device("meta")


def test_only_training_augments(encoder):
    clips = [encoder.decode(recording(tone(440, 1)))] * 2

    assert torch.equal(encoder(clips).values, encoder(clips).values)
    encoder.train()
    values = encoder(clips).values
    encoder.eval()
    assert not torch.allclose(values[0], values[1])


def test_a_backbone_trained_here_is_saved_whole(encoder):
    assert encoder.trained and encoder.frozen_names() == set() and encoder.dim == 128
    copy = AudioEncoder(**encoder.config).eval()
    copy.load_state_dict(encoder.state_dict())
    clips = [encoder.decode(recording(tone(440, 1)))]
    assert torch.equal(copy(clips).values, encoder(clips).values)


def test_a_clip_longer_than_any_recording_and_a_dim_without_heads_are_refused():
    with pytest.raises(ValueError, match=r"encoder.clip_seconds is 0, must be above 0 and at most max_audio_seconds"):
        AudioEncoder("log-mel-transformer", clip_seconds=0)
    with pytest.raises(ValueError, match="dim is 30, must be a multiple of num_heads, 4"):
        AudioEncoder("log-mel-transformer", dim=30)
