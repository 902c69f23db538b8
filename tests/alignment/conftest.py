"""Training data shared by the tests of this folder."""

import pytest

from tests.alignment.planted_pairs import write_planted_source


@pytest.fixture(scope="session")
def planted_source(tmp_path_factory):
    """The planted catalog, to be read only."""
    return write_planted_source(tmp_path_factory.mktemp("planted") / "source")
