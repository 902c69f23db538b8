"""Training data shared by the tests of this folder."""

import pytest

from tests.alignment.planted_pairs import write_planted_source


@pytest.fixture(scope="session")
def planted_source(tmp_path_factory):
    """Returns the folder of the planted catalog, which tests must not change."""
    return write_planted_source(tmp_path_factory.mktemp("planted") / "source")
