"""A number is given once, whatever was deleted since and whoever asks at the same time."""

from __future__ import annotations

import shutil
import threading

from qarm_features.storage.artifacts import Artifacts, write_json
from tests.storage.test_artifacts import write_number


def test_a_deleted_version_leaves_its_number_behind(tmp_path):
    codebooks = Artifacts(tmp_path, "codebooks")
    for n in range(3):
        codebooks.publish(write_number(n))

    shutil.rmtree(codebooks.get(2).path)

    assert codebooks.publish(write_number(9)).version == 3
    assert codebooks.versions() == [0, 1, 3]


def test_a_lost_folder_starts_above_what_tables_and_other_manifests_name(tmp_path):
    first = Artifacts(tmp_path, "codebooks", taken=lambda: 4).publish(write_number(0))
    Artifacts(tmp_path, "ranking_models").publish(write_number(0), codebook_version=6, item_content_version=2)
    write_json(tmp_path / "releases" / "cb8.json", {"codebook_version": 8, "encoder_version": 5})
    (tmp_path / "releases" / "cb9.json").write_text("cut o")
    shutil.rmtree(tmp_path / "codebooks")

    made = {
        kind: Artifacts(tmp_path, kind).publish(write_number(1)) for kind in ("codebooks", "encoders", "item_content")
    }

    assert first.version == 5
    assert {kind: artifact.version for kind, artifact in made.items()} == {
        "codebooks": 9,
        "encoders": 6,
        "item_content": 3,
    }


def test_the_fingerprint_is_that_of_the_files_and_of_the_encoder_and_stands_in_the_manifest(tmp_path):
    codebooks = Artifacts(tmp_path, "codebooks")

    made = [
        codebooks.publish(write_number(n), encoder_fingerprint=e) for n, e in ((7, "a"), (7, "a"), (8, "a"), (7, "b"))
    ]

    assert made[0].fingerprint == made[1].fingerprint == made[0].manifest["fingerprint"]
    assert len({artifact.fingerprint for artifact in made}) == 3


def test_many_publishers_at_once_get_numbers_of_their_own_although_versions_are_deleted(tmp_path):
    codebooks, given = Artifacts(tmp_path, "codebooks"), []

    def publish() -> None:
        for n in range(5):
            made = codebooks.publish(write_number(n))
            given.append(made.version)
            shutil.rmtree(made.path)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(given)) == 20
