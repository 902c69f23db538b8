"""A new project: a ``qarm.yaml`` that explains every setting, and the feature repo.

In: a folder. Out: its files. The text of ``qarm.yaml`` is generated from ``Settings``, so that it names every setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel

from qarm_features.importers.plan import Setting
from qarm_features.importers.printable import printable
from qarm_features.settings.load import Settings

_HEADER = """\
# Settings of a QARM features project. A relative path starts at the folder of this file. A line that is commented out shows
# the default. An environment variable overrides a setting, for example QARM_CODEBOOKS__NUM_LEVELS=4.
"""
_WHY = "Chosen for new projects, because it cost few-click targets nothing; the default stays for those that exist."
# Other defaults would let every project that exists align its encoder anew.
_CHOSEN = {
    "alignment.popularity_correction": Setting(False, _WHY),
    "alignment.uniform_negatives": Setting(2048, _WHY),
}
_LONGEST_NAME = 24  # PostgreSQL cuts names of tables, which hold the name of the view too, after 63 bytes.
_EXAMPLES = {"items.path": "catalog/items.parquet", "interactions.path": "catalog/interactions.parquet"}


def write_project(folder: Path, settings: Mapping[str, Setting] | None = None) -> list[Path]:
    """Writes ``qarm.yaml`` and ``feature_repo/`` into a folder, without changing a file that exists.

    Args:
        folder: Folder of the project, which need not exist.
        settings: Settings that are known, by their names, for example ``items.path``, with what to say beside them.

    Returns:
        Paths of the files that were written.
    """
    repo = folder / "feature_repo"
    repo.mkdir(parents=True, exist_ok=True)
    contents = {folder / "qarm.yaml": settings_text(settings or {})}
    for source in sorted(_feature_repo_template().iterdir()):
        if source.suffix in (".yaml", ".py"):
            contents[repo / source.name] = source.read_text()
    for store in (repo / "feature_store.yaml", repo / "feature_store.production.yaml"):
        contents[store] = contents[store].replace("project: qarm\n", f"project: {project_name(folder)}\n")
    new = [path for path in contents if not path.exists()]
    for path in new:
        path.write_text(contents[path])
    return new


def settings_text(known: Mapping[str, Setting]) -> str:
    """Returns the text of a ``qarm.yaml`` that explains every setting.

    Args:
        known: Settings that are known, by their names. The others are examples, chosen for new projects, or commented out.
    """
    return _HEADER + "\n".join(_lines(Settings, "", {**_CHOSEN, **known})) + "\n"


def project_name(folder: Path) -> str:
    """Returns the name of a folder as a name of a Feast project, which stands in keys and names of tables online.

    Args:
        folder: Folder of the project.

    Example:
        >>> project_name(Path("/data/My shop-2")), project_name(Path("/data/2024")), project_name(Path("/"))
        ('my_shop_2', 'qarm_2024', 'qarm')
    """
    words = re.findall(r"[a-z0-9]+", folder.resolve().name.lower())
    name = "_".join(words)[:_LONGEST_NAME].strip("_") or "qarm"
    return name if name[0].isalpha() else f"qarm_{name}"


def _feature_repo_template() -> Path:
    """Returns the installed ``feature_repo`` of a wheel, or that of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "feature_repo"
    return installed if installed.is_dir() else package.parent / "feature_repo"


def _lines(section: type[BaseModel], prefix: str, known: Mapping[str, Setting]) -> list[str]:
    """Returns the lines of ``qarm.yaml`` for a section; ``prefix`` is its name and a dot, or empty for the whole file."""
    indent = "  " * prefix.count(".")
    lines = []
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            lines += ["", f"{name}:", *_lines(annotation, f"{prefix}{name}.", known)]
            continue
        if (setting := known.get(prefix + name)) is not None:
            line = f"{name}: {_flow(setting.value)}  # {field.description} {printable(setting.why)}".rstrip()
            lines.append(f"{indent}# {line}" if setting.value is None else f"{indent}{line}")
            continue
        example = _EXAMPLES.get(prefix + name)
        is_set = example or (prefix in ("items.", "interactions.") and field.default is not None)
        line = f"{name}: {_flow(example or field.default)}  # {field.description}"
        lines.append(f"{indent}{line}" if is_set else f"{indent}# {line}")
    return lines


def _flow(value: object) -> str:
    """Returns a value on one line of YAML."""
    dumped: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=2**20)
    return dumped.removesuffix("...\n").strip()
