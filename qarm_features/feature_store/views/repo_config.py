"""The configuration of a feature repo, with the values of the environment variables that it names.

In: ``feature_store.yaml``. Out: Feast's ``RepoConfig``. Feast itself puts the variables into the text before it reads the
text as YAML, so that a quote, a ``#`` or a colon in a password ends the value or breaks the file. Here the file is read
first, so that a variable may hold any text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from feast.repo_config import RepoConfig
from pydantic import ValidationError

from qarm_features.settings.secrets import credentials_of, is_secret_name, remember_secrets

_FILE = "feature_store.yaml"
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


class _Loader(yaml.SafeLoader):
    """Reads YAML whose scalars may name environment variables."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Returns the text of a scalar with the values of its variables."""
        return _VARIABLE.sub(_value_of, super().construct_scalar(node))

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Returns the value of a node; one without quotes may become a number, a list or a mapping by its variable."""
        if isinstance(node, yaml.ScalarNode) and node.style is None and _VARIABLE.search(node.value):
            text = self.construct_scalar(node)
            try:
                return yaml.safe_load(text)
            except yaml.YAMLError:
                return text
        return super().construct_object(node, deep)


def read_repo_config(folder: Path) -> RepoConfig:
    """Read ``feature_store.yaml``. From then on its passwords are hidden in logs and errors.

    Args:
        folder: Folder of the file.

    Raises:
        ValueError: The file is no YAML, names a variable that is not set, or has a setting that Feast refuses. The message
            shows no value.
    """
    content = _content(folder / _FILE)
    if not isinstance(content, dict):
        raise ValueError(f"{folder / _FILE} is a {type(content).__name__}, must be a mapping. Run: qarm init DIR")
    remember_secrets(secrets_in(content))
    try:
        config = RepoConfig(**content)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ValueError(f"{folder / _FILE} has a setting that Feast refuses: {found}.") from None
    config.repo_path = folder
    return config


def _content(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    try:
        return yaml.load(text, _Loader)  # it is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
    try:
        return yaml.safe_load(os.path.expandvars(text))  # {a: ${NAME}} is YAML only as Feast reads it
    except yaml.YAMLError:  # its own message may quote the line
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        raise ValueError(f"{path} is not valid YAML{place}. Look at indentation and quotes there.") from None


def secrets_in(content: Any, name: str = "") -> list[str]:
    """Return the passwords in the content of ``feature_store.yaml``."""
    if isinstance(content, dict):
        return [secret for key, value in content.items() for secret in secrets_in(value, str(key))]
    if isinstance(content, list):
        return [secret for value in content for secret in secrets_in(value, name)]
    text = "" if content is None else str(content)
    whole = [text] if is_secret_name(name) else []
    if name == "connection_string":
        whole += [
            part.partition("=")[2].strip('"') for part in text.split(",") if is_secret_name(part.partition("=")[0])
        ]
    return [*whole, *credentials_of(text)]


def _value_of(found: re.Match[str]) -> str:
    name = found[1] or found[2]
    if name in os.environ:
        return os.environ[name]
    if found[2]:  # Feast leaves such a text as it is, and it may be no variable at all
        return found[0]
    raise ValueError(f"feature_store.yaml names the variable {name}, which is not set. Run: export {name}=...")
