"""Delta's jars come from Maven, or from the folder of Spark where an image has put them."""

from __future__ import annotations

from qarm_features.jobs.spark_session import delta_is_installed


def test_delta_among_the_jars_of_spark_is_found(tmp_path):
    image, plain = tmp_path / "image", tmp_path / "plain"
    for home, jar in ((image, "io.delta_delta-spark_4.2_2.13-4.4.0.jar"), (plain, "delta-storage-4.4.0.jar")):
        (home / "jars").mkdir(parents=True)
        (home / "jars" / jar).touch()

    found = [delta_is_installed(home) for home in (image, plain, tmp_path)]

    assert found == [True, False, False]
