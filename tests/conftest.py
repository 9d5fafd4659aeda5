"""What several test modules need: the reference data, small score files, a tiny corpus."""

import json
import os
from pathlib import Path
from typing import Any

# As main.py does it, before torch is imported: threads that wait leave the cores to others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

from s2pecnet.corpora.demo import make_demo_corpus
from tests.helpers.samples import ASV_TEXT, CM_TEXT, TINIEST, TINY

SHARED = Path(os.environ.get("S2PEC_SHARED", Path(__file__).resolve().parents[2] / "shared"))

# A busy machine is no failure, and CI decides the same about the same code every time. New examples: `make search`.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("same")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data at {SHARED} (set S2PEC_SHARED to the folder that holds it)")
    return SHARED


@pytest.fixture(scope="session")
def expected(shared: Path) -> dict[str, Any]:
    """What the organisers' scorer gives for public systems and small cases."""
    figures: dict[str, Any] = json.loads((shared / "reference" / "evaluation" / "expected.json").read_text())
    return figures


@pytest.fixture
def cm_file(tmp_path: Path) -> Path:
    path = tmp_path / "cm.txt"
    path.write_text(CM_TEXT)
    return path


@pytest.fixture
def asv_file(tmp_path: Path) -> Path:
    path = tmp_path / "asv.txt"
    path.write_text(ASV_TEXT)
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny synthetic corpus in the LA layout."""
    root = tmp_path_factory.mktemp("corpus") / "LA"
    return make_demo_corpus(root, seed=7, clips_per_split={"train": 24, "dev": 18, "eval": 18})


@pytest.fixture
def tiny_config(corpus: Path, tmp_path: Path) -> Path:
    """A config that trains in seconds on the tiny corpus."""
    path = tmp_path / "tiny.conf"
    path.write_text(json.dumps(TINY | {"database_path": str(corpus)}, indent=2))
    return path


@pytest.fixture
def tiniest_config(corpus: Path, tmp_path: Path) -> Path:
    """A config that trains in a second on the tiny corpus."""
    path = tmp_path / "tiniest.conf"
    path.write_text(json.dumps(TINIEST | {"database_path": str(corpus)}, indent=2))
    return path
