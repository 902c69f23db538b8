"""Files that claim to be huge need no memory; a process of its own measures its peak memory, which never falls."""

import json
import subprocess
import sys
from pathlib import Path

MEASURE = """
import json, resource
from tests.decoding.media_files import picture, png_that_claims, recording, tone, wav_that_claims
from qarm_features.encoders import AudioEncoder, BrokenContent, ImageEncoder

def megabytes(decode, content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        decode(content)
    except BrokenContent as error:
        return [(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, str(error)]

image = ImageEncoder("patch-transformer").decode
audio = AudioEncoder("log-mel-transformer", max_audio_seconds=20_000).decode
image(picture()), audio(recording(tone(440, 5)))
bomb, claim = png_that_claims(40_000, 40_000, rows=500), wav_that_claims(3 * 3600)
print(json.dumps([megabytes(image, bomb), megabytes(audio, claim)]))
"""


def test_a_decompression_bomb_and_a_header_that_claims_three_hours_cost_no_memory():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip

    (image, image_reason), (audio, audio_reason) = json.loads(done.stdout)
    assert image < 20 and audio < 20
    assert image_reason == "image has more than 50000000 pixels"
    assert audio_reason == "audio is truncated or damaged"
