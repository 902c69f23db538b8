"""Feast's internal names stand on one page, and a missing package is reported with the extra to install."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys

import pytest

import qarm_features.feature_store
from qarm_features.feature_store import feast_internals
from qarm_features.feature_store.missing_packages import naming_the_extra
from tests.import_graph import PACKAGE, modules

PAGE = "feature_store.feast_internals"
LIBRARIES = ("feast", "redis")
# Internal functions of Feast without an underscore in their names.
INTERNAL = {
    "compute_table_id",
    "compute_versioned_name",
    "get_online_store_from_config",
    "get_or_create_new_spark_session",
    "serialize_entity_key_prefix",
}


def imported_names(tree):
    """Yields the names that a module imports from Feast and redis-py."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            yield from (alias.name for alias in node.names)


def private_attributes(tree):
    """Yields the attributes with an underscore that a module reads from other objects than its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls", "super()") and node.attr not in ("_asdict", "_replace", "_make"):
                yield f"{owner}.{node.attr}"


def test_no_other_module_imports_an_internal_name_of_feast():
    others = {
        f"{module} imports {name}"
        for module, path in modules().items()
        for name in imported_names(ast.parse(path.read_text()))
        if module != PAGE and (name.startswith("_") or name in INTERNAL)
    }

    assert others == set()


def test_no_other_module_of_the_feature_store_touches_a_private_attribute():
    others = {
        f"{module} touches {name}"
        for module, path in modules().items()
        for name in private_attributes(ast.parse(path.read_text()))
        if module.startswith("feature_store.") and module != PAGE
    }

    assert others == set()


def test_every_internal_name_exists_in_the_installed_feast():
    tree = ast.parse((PACKAGE / "feature_store" / "feast_internals.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    imports = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]

    assert len(imports) >= 12
    for node in imports:
        exec(compile(ast.Module([node], []), "feast_internals.py", "exec"), {})
    assert importlib.metadata.version("feast").startswith(feast_internals.CHECKED_FEAST + ".")


def test_importing_the_page_loads_no_feast():
    code = "import sys, qarm_features.feature_store.feast_internals; print({'feast', 'redis'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("package", "extra"), [("feast", "feast"), ("torch", "torch")])
def test_a_missing_package_is_reported_with_the_extra_to_install(package, extra):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "try:\n    from qarm_features.feature_store import SemanticIDReader\n"
        "except ImportError as error:\n    print(error)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)

    assert f"needs {package}, which is not installed. Run: pip install 'qarm-features[{extra}]'" in done.stdout


def test_a_missing_redis_is_reported_with_its_extra_also_behind_an_error_of_feast():
    message = r"needs redis, which is not installed. Run: pip install 'qarm-features\[redis\]'"

    with pytest.raises(ImportError, match=message), naming_the_extra():
        try:
            raise ModuleNotFoundError("No module named 'redis'", name="redis")
        except ImportError as error:
            raise ValueError(f"Feast says: {error}")  # noqa: B904  Feast raises its own error like this


def test_other_errors_pass_unchanged():
    with pytest.raises(ModuleNotFoundError, match="colorful"), naming_the_extra():
        raise ModuleNotFoundError("No module named 'colorful'", name="colorful")
    with pytest.raises(AttributeError, match="has no attribute 'Reader'"):
        qarm_features.feature_store.Reader  # noqa: B018  reading the attribute is the test
