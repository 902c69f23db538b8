"""Every Python block of the documentation runs, page by page, on the toy project that all jobs have run on.

The blocks of a page share their names, as a reader would type them one after the other. The working directory holds the
project both as `my_project` and, for pages that say "in the project", by its own folders.
"""

from __future__ import annotations

import shutil
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from qarm_features.jobs.context import JobContext
from tests.docs.blocks import Block, blocks

BY_PAGE = {page: list(of_page) for page, of_page in groupby(blocks("python"), key=lambda block: block.page)}
# Numbers and IDs of the pages, and those of the toy project: 2 levels of 4 centroids, integer IDs.
_SIZES = {
    "num_levels=3": "num_levels=2",
    "codebook_size=64": "codebook_size=4",
    "codebook_size=256": "codebook_size=4",
    '"num_levels": 3, "codebook_size": 64': '"num_levels": 2, "codebook_size": 4',
    "0, 3, 256": "0, 2, 4",
}
_IDS = {
    '["A100", "B200", "unknown"]': "[0, 16, 999]",
    '["A7", "A8", "unknown"]': "[0, 16, 999]",
    '"=", "A100"': '"=", 0',
}
_NAMES = {"my_shop/": "my_project/"}


def reads_a_project(block: Block) -> bool:
    return any(name in block.code for name in ("my_project", "my_shop", "artifacts/", '"data/'))


WITH_PROJECT = [page for page, of_page in BY_PAGE.items() if any(map(reads_a_project, of_page))]
WITHOUT_PROJECT = [page for page in BY_PAGE if page not in WITH_PROJECT]


def run(page: str) -> None:
    """Runs the blocks of a page one after the other, with the sizes and IDs of the toy project where they read a project."""
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "recent_behavior" if page == "CONTRIBUTING.md" else "docs"}
    for block in BY_PAGE[page]:
        code = block.code
        if reads_a_project(block):
            for shown, here in {**_SIZES, **_IDS, **_NAMES}.items():
                code = code.replace(shown, here)
        if block.reason is None:
            exec(compile(code, block.place, "exec"), names)


@pytest.fixture
def reader_of_the_docs(project: JobContext, tmp_path, monkeypatch) -> Path:
    """The working directory of somebody who follows a page."""
    home = project.settings.warehouse_path.rsplit("/", 1)[0]
    shutil.copytree(home, tmp_path / "my_project")  # a block may write, and the toy project belongs to all tests
    for name in ("data", "artifacts", "feature_repo"):
        (tmp_path / name).symlink_to(tmp_path / "my_project" / name)
    (own_input,) = BY_PAGE["CONTRIBUTING.md"]
    (tmp_path / "recent_behavior.py").write_text(own_input.code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("recent_behavior", None)


@pytest.mark.parametrize("page", WITHOUT_PROJECT)
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    run(page)


@pytest.mark.parametrize("page", WITH_PROJECT)
def test_the_blocks_of_a_page_about_a_project_run_one_after_the_other(page, reader_of_the_docs):
    run(page)


def test_a_block_that_is_not_run_says_why():
    skipped = [block for block in blocks("python") if block.reason is not None]

    assert all(len(block.reason.split()) > 3 for block in skipped)
    assert len(skipped) <= 2
