"""``qarm env pack``: the Python environment of this machine as one file that executors of a cluster run.

In: the environment in which ``qarm`` is installed. Out: a PEX file, which is a Python program that any machine with the same
version of Python can start. ``spark-submit --files qarm-env.pex --conf spark.executorEnv.PYSPARK_PYTHON=./qarm-env.pex``
sends it to the executors. PySpark itself is left out: each Spark brings its own.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Annotated

import typer

from qarm_features.extras import naming_extra
from qarm_features.terminal import plain_console

app = typer.Typer(no_args_is_help=True, help="The Python environment of executors.")
_OF_THIS_MACHINE = ("dev", "cluster", "explore", "mlflow")  # extras that executors never need
_NAME = "qarm-features"


@app.command()
def pack(
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("qarm-env.pex"),
    extra: Annotated[
        list[str] | None, typer.Option(help="Extra of qarm-features to pack; all that are installed by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Packs the installed packages into one file for the executors of a cluster.

    It reads the packages of this environment and asks no package index. The executors need the same version of Python.
    """
    with naming_extra("Packs of an environment", "cluster"):
        import pex  # noqa: F401  # it is started as a program below

    if output.exists() and not force:
        raise ValueError(f"--output is {output}, which exists. Use --force to replace it.")
    wanted = packed_extras(extra)
    with plain_console().status(f"packing {_NAME}[{','.join(wanted)}] {version(_NAME)}"):
        write_pack(output, wanted)
    typer.echo(f"{output}: {_NAME}[{','.join(wanted)}] {version(_NAME)}, {output.stat().st_size / 1e6:,.0f} MB")
    typer.echo(
        f"Send it to the executors: spark-submit --files {output} "
        f"--conf spark.executorEnv.PYSPARK_PYTHON=./{output.name} $(qarm job-file embed-items) --config qarm.yaml"
    )


def packed_extras(wanted: list[str] | None) -> list[str]:
    """Return the extras to pack, in alphabetical order.

    Args:
        wanted: Extras that the user named; None for all whose packages are installed, without those that only the machine
            of a person needs.

    Raises:
        ValueError: There is no such extra, or a package of it is not installed.
    """
    known = set(distribution(_NAME).metadata.get_all("Provides-Extra") or ())
    if wanted is None:
        return sorted(name for name in known - set(_OF_THIS_MACHINE) if not _missing(name))
    for name in wanted:
        if name not in known:
            raise ValueError(f"--extra is {name}, must be one of {', '.join(sorted(known))}.")
        if missing := _missing(name):
            raise ValueError(
                f"--extra is {name}, but {missing[0]} is not installed here. Run: pip install '{_NAME}[{name}]'"
            )
    return sorted(set(wanted))


def write_pack(output: Path, extras: list[str]) -> None:
    """Write the pack, whole or not at all.

    Args:
        output: File to write.
        extras: Extras of the package to pack.

    Raises:
        ValueError: PEX could not make it. The message ends with what it said.
    """
    requirement = f"{_NAME}[{','.join(extras)}]" if extras else _NAME
    draft = output.with_name(f".{output.name}.draft")
    command = [sys.executable, "-m", "pex", "--venv-repository", sys.prefix, requirement, "--exclude", "pyspark"]
    # Spark puts its own PySpark on PYTHONPATH of the executors.
    command += ["--inherit-path=fallback", "--output-file", str(draft)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.split())[-600:]
            raise ValueError(f"The environment {sys.prefix} could not be packed: {said}")
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)


def _missing(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed."""
    from packaging.requirements import Requirement

    missing = []
    for required in map(Requirement, distribution(_NAME).requires or ()):
        marker = required.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        try:
            distribution(required.name)
        except PackageNotFoundError:
            missing.append(required.name)
    return missing
