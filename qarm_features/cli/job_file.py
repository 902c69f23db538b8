"""The launcher of a job, which is the file that spark-submit runs.

In: the name of a job. Out: the path of its launcher: the installed one in a wheel, the one in ``spark_jobs/`` in a checkout.
"""

from __future__ import annotations

from pathlib import Path


def launchers_folder() -> Path:
    """Returns the folder that holds the launcher of every job."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "spark_jobs"
    return installed if installed.is_dir() else package.parent / "spark_jobs"


def launcher(name: str) -> Path:
    """Returns the path of a job's launcher.

    Args:
        name: Name of the job as a command (``embed-items``) or as a module (``embed_items``).

    Raises:
        ValueError: No job has this name.
    """
    launchers = {path.stem: path for path in sorted(launchers_folder().glob("*.py"))}
    wanted = name.replace("-", "_")
    if wanted not in launchers:
        known = ", ".join(job.replace("_", "-") for job in launchers)
        raise ValueError(f"JOB is {name}, must be one of {known}.")
    return launchers[wanted]
