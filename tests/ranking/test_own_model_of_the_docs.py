"""The training loop that the docs show runs on the rows that the jobs wrote, and its model learns."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from qarm_features.jobs.context import JobContext

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ranking.md"


def test_the_loop_of_the_docs_trains_a_model_of_ones_own(project: JobContext):
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "class MyModel" in code)
    codebooks = project.settings.codebooks
    changes = {
        "0, 3, 256": f"0, {codebooks.num_levels}, {codebooks.codebook_size}",
        "my_project/data/training_rows": f"{project.settings.warehouse_path}/training_rows",
        "range(2)": "range(40)",
    }
    for shown, here in changes.items():
        assert code.count(shown) == 1
        code = code.replace(shown, here)
    found: dict = {"__name__": "my_model"}
    torch.manual_seed(0)

    exec(code, found)

    rows, model = found["rows"], found["model"]
    batches = list(found["DataLoader"](rows, batch_size=None))
    assert sum(len(batch.label) for batch in batches) == rows.num_rows > 0
    label = torch.cat([batch.label for batch in batches])
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    rate = label.mean()
    constant = loss(torch.logit(rate).expand(len(label)), label)
    with torch.no_grad():
        assert loss(torch.cat([model(batch) for batch in batches]), label) < 0.9 * constant
    assert model.codes.codebook_version == 0
