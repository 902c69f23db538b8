"""A new project: a ``qarm.yaml`` with every setting explained, and the feature repo.

In: a folder. Out: its files. The text of ``qarm.yaml`` is made from the ``Settings`` model and so cannot lag behind it.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel

from qarm_features.settings.load import Settings

_HEADER = """\
# Settings of a QARM features project. Relative paths count from this file's folder. Every value can be overridden by a
# variable, for example QARM_CODEBOOKS__NUM_LEVELS=4. A commented-out line shows a default.
"""
_EXAMPLES = {"items.path": "catalog/items.parquet", "interactions.path": "catalog/interactions.parquet"}


def write_project(folder: Path) -> list[Path]:
    """Writes ``qarm.yaml`` and ``feature_repo/`` into ``folder``; files that are there already are left alone.

    Returns:
        The files written.
    """
    repo = folder / "feature_repo"
    repo.mkdir(parents=True, exist_ok=True)
    contents = {folder / "qarm.yaml": _HEADER + "\n".join(_lines(Settings, "")) + "\n"}
    for source in sorted(_feature_repo().iterdir()):
        if source.suffix in (".yaml", ".py"):
            contents[repo / source.name] = source.read_text()
    store = repo / "feature_store.yaml"
    contents[store] = contents[store].replace("sqlite:///registry.db", f"sqlite:///{repo.resolve() / 'registry.db'}")
    written = [path for path in contents if not path.exists()]
    for path in written:
        path.write_text(contents[path])
    return written


def _feature_repo() -> Path:
    installed = Path(__file__).parents[1] / "feature_repo"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "feature_repo"


def _lines(model: type[BaseModel], prefix: str) -> list[str]:
    indent = "  " * prefix.count(".")
    lines = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines += ["", f"{name}:", *_lines(kind, f"{prefix}{name}.")]
            continue
        example = _EXAMPLES.get(prefix + name)
        value = yaml.safe_dump(example or field.default, default_flow_style=True).removesuffix("...\n").strip()
        shown = example or (prefix in ("items.", "interactions.") and field.default is not None)
        lines.append(f"{indent}{'' if shown else '# '}{name}: {value}  # {field.description}")
    return lines
