"""The example for Kubernetes: its manifests, its settings and its Dockerfile, as data.

In: ``examples/kubernetes``. Out: dictionaries of the manifests, and the instructions of the Dockerfile.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "kubernetes"
MANIFESTS = [
    (file.name, manifest) for file in sorted(FOLDER.glob("*.yaml")) for manifest in yaml.safe_load_all(file.read_text())
]


def manifest(kind: str, name: str) -> dict[str, Any]:
    """Returns a manifest."""
    return next(one for _, one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == (kind, name))


def project_files() -> dict[str, str]:
    """Returns the texts of the files that are mounted as the project."""
    return manifest("ConfigMap", "qarm-project")["data"]


def pod_of(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the template of the pods that a manifest makes."""
    spec = content["spec"]
    return (spec["jobTemplate"]["spec"] if content["kind"] == "CronJob" else spec)["template"]


def pods() -> dict[str, dict[str, Any]]:
    """Returns the specification of every pod of the example, by the name of its container."""
    specs = [pod_of(one)["spec"] for _, one in MANIFESTS if one["kind"] in ("CronJob", "StatefulSet")]
    specs.append(yaml.safe_load(project_files()["executor.yaml"])["spec"])
    return {spec["containers"][0]["name"]: spec for spec in specs}


def instructions() -> list[tuple[str, str]]:
    """Returns the instructions of the Dockerfile in their order, each with its words on one line."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, words = line.partition(" ")
        found.append((instruction, words.strip()))
    return found
