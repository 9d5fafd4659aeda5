"""The layout: the top level is the mission's, and imports point one way."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT

# From the top: a package imports only from lower lines.
ORDER = [
    {"cli"},
    {"crosseval"},
    {"experiment"},
    {"training"},
    {"reporting"},
    {"scoring", "arena", "export", "hub"},
    {"data"},
    {"systems", "augment"},
    {"runs", "runtime"},
    {"metrics"},
    {"config"},
    {"corpora"},
    {"audio", "score_files", "nn", "features", "extras", "interruption"},
    {"download"},
    {"files", "precision", "shipped"},
    {"text", "conventions"},
    {"errors"},
]
LEVEL = {name: level for level, names in enumerate(reversed(ORDER)) for name in names}
# Exporting needs what scoring and reporting know of weights and verdicts.
NO_TORCH = {"augment", "metrics", "score_files", "corpora", "audio", "config", "runs"}
TOP = {"main.py", "data_utils.py", "evaluation.py", "utils.py", "download_dataset.py"}
FILES = sorted((ROOT / "s2pecnet").rglob("*.py"))


def imports(path: Path, everywhere: bool = True) -> Iterator[str]:
    """Modules that a file imports; not `everywhere`: at its top level, outside of functions and TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "s2pecnet").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = package_of(path)
    found = set(imports(path))
    if package in LEVEL:
        used = {name.split(".")[1] for name in found if name.startswith("s2pecnet.")} & LEVEL.keys()
        upward = {name for name in used if name != package and LEVEL[name] >= LEVEL[package]}
        # The choices of two keys of a config are the names of corpora.
        assert not upward, f"{package} imports {upward}"
    tops = {name.partition(".")[0] for name in found}
    assert not tops & ({name.removesuffix(".py") for name in TOP} | {"models", "tools", "benchmarks", "tests"})
    assert "argparse" not in tops or package == "cli"
    if package in NO_TORCH:
        assert "torch" not in {name.partition(".")[0] for name in imports(path, everywhere=False)}
    if package == "cli" and path.name not in ("__init__.py", "command.py", "completion.py"):
        assert not [name for name in found if name.startswith("s2pecnet.cli.") and "s2pecnet.cli.command" not in name]


def test_the_top_level_is_the_missions() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no git checkout: which files belong to it cannot be told")
    files = [name for name in done.stdout.splitlines() if (ROOT / name).exists()]
    assert {name for name in files if "/" not in name and name.endswith(".py")} == TOP
    assert all(len((ROOT / name).read_text().splitlines()) <= 80 for name in TOP)
