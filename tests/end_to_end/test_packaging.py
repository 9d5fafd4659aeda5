"""The wheel: what is in it, and that it does elsewhere what the checkout does."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import s2pecnet
from tests.helpers import ROOT
from tests.helpers.samples import TINIEST

pytestmark = pytest.mark.slow

if sys.version_info >= (3, 11):
    import tomllib
else:  # python 3.10 has no reader of its own; pip brings one
    from pip._vendor import tomli as tomllib  # type: ignore[no-redef]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCORES = "eval_scores_using_best_dev_model.txt"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# A system of one's own, as README shows one.
SYSTEM = """
from torch import nn
class Model(nn.Module):
    def __init__(self, model_config):
        super().__init__()
        self.out = nn.Linear(model_config["nb_samp"], 2)
    def forward(self, x):
        return x, self.out(x)
"""


def sources() -> list[str]:
    """Files of the checkout, without what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no git checkout: which files belong to the package cannot be told")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def python(*words: object, cwd: Path, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "S2PEC_MODELS")}
    if path:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in sources():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    built = python("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder,
                   cwd=folder / "source")  # fmt: skip
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed into it, beside what the tests run with."""
    target = tmp_path_factory.mktemp("site")
    done = python("-m", "pip", "install", wheel, "--no-deps", "--no-index", "--target", target, cwd=target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def s2pec(installed: Path) -> Run:
    """Run the installed command."""

    def run(*words: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
        return python(installed / "bin" / "s2pecnet", *words, cwd=cwd, path=installed)

    return run


@pytest.fixture(scope="module")
def runs(s2pec: Run, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training by the installed command and one by the checkout's, in `installed/` and `checkout/`."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "tiniest.conf").write_text(json.dumps(TINIEST | {"database_path": str(corpus), "num_epochs": 1}))
    words = ["--config", "tiniest.conf", "--seed", 3, "--device", "cpu", "--set", "num_workers=1", "-q", "--output_dir"]
    for done in (
        s2pec("train", *words, "installed", cwd=folder),
        python(ROOT / "main.py", *words, "checkout", cwd=folder),
    ):
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    return folder


def test_the_wheel_has_every_module_in_one_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "s2pecnet",
        f"s2pecnet-{s2pecnet.__version__}.dist-info",
    }
    ours = [name for name in sources() if re.fullmatch(r"(s2pecnet|models|config)/.+", name)]
    inside = {re.sub("^config/", "s2pecnet/configs/", re.sub("^models/", "s2pecnet/models/", name)) for name in ours}
    assert inside == {name for name in names if name.startswith("s2pecnet/")}
    assert not [name for name in names if "test" in name or "docs" in name]


def test_training_gives_what_the_checkout_gives(runs: Path) -> None:
    ours, theirs = (runs / name / "LA_tiniest_ep1_bs6" for name in ("installed", "checkout"))
    assert (ours / SCORES).read_bytes() == (theirs / SCORES).read_bytes()
    assert {path.name for path in ours.iterdir() if "events" not in path.name} == {
        path.name for path in theirs.iterdir() if "events" not in path.name
    }
    results = json.loads((ours / "results.json").read_text())
    assert results["versions"]["s2pecnet"] == s2pecnet.__version__
    assert results["command"][2] == "train"
    assert results["commit"] is None


def test_predict_gives_what_the_checkout_gives(runs: Path, s2pec: Run, corpus: Path) -> None:
    clips = sorted(corpus.rglob("*.flac"))[:3]
    weights = runs / "checkout" / "LA_tiniest_ep1_bs6" / "weights" / "best.pth"
    words = ["--config", "tiniest.conf", "--weights", weights, "--format", "csv", "--device", "cpu", *clips]
    ours = s2pec("predict", *words, cwd=runs)
    theirs = python("-m", "s2pecnet", "predict", *words, cwd=runs, path=ROOT)
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout == theirs.stdout
    assert len(ours.stdout.splitlines()) == 1 + len(clips)


def test_a_system_of_ones_own_is_found_where_the_command_runs(
    s2pec: Run, installed: Path, corpus: Path, tmp_path: Path
) -> None:
    """With loading processes that are spawned, and so import everything anew."""
    config = TINIEST | {"database_path": str(corpus), "num_epochs": 1, "num_workers": 1}
    config["model_config"] = {"architecture": "Mine", "nb_samp": 800}
    project = tmp_path / "project"
    for name, text in (("config/Mine.conf", json.dumps(config)), ("models/Mine.py", SYSTEM)):
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text(text)
    (tmp_path / "spawned.py").write_text(
        "import multiprocessing, sys, s2pecnet.__main__\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    s2pecnet.__main__.run()\n"
    )
    # The config lies beside the folder models/; the command runs elsewhere.
    torch.save({"out.weight": torch.ones(2, 800), "out.bias": torch.zeros(2)}, tmp_path / "mine.pth")
    words = ["-v", "--config", project / "config" / "Mine.conf", "--eval_model_weights", "mine.pth"]
    done = python("spawned.py", "score", *words, cwd=tmp_path, path=installed)
    assert done.returncode == 0, done.stderr
    assert "note: Mine: 1,602 parameters" in done.stderr
    # The config is found by its name, and models/ where the command runs.
    (project / "models" / "Mine.py").rename(project / "models" / "Renamed.py")
    done = s2pec("train", "-v", "--config", "Mine", cwd=project)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "note: config Mine is config/Mine.conf"
    places = f"models/, {project.resolve() / 'models'}"
    assert f"unknown architecture 'Mine': there is no such file in {places}" in done.stderr
    assert "Renamed, S2pecNet, " in done.stderr


def test_configs_of_the_framework_are_found_by_name(s2pec: Run, installed: Path, tmp_path: Path) -> None:
    shipped = installed / "s2pecnet" / "configs" / "AASIST.conf"
    done = s2pec("score", "-v", "--config", "AASIST", "--set", "batch_size=none", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"note: config AASIST is {shipped}\nerror: --set batch_size: ")


def test_the_map_and_the_help_are_quick(s2pec: Run, tmp_path: Path) -> None:
    """Nothing slow is imported; the time itself depends on the machine."""
    for words in (["--help"], ["train", "--help"], ["--version"]):
        code = (
            f"import sys; sys.argv = ['s2pecnet', *{words!r}]\n"
            "import s2pecnet.__main__\n"
            "try: s2pecnet.__main__.run()\n"
            "finally: assert not {'torch', 'numpy'} & set(sys.modules), 'slow'"
        )
        done = python("-c", code, cwd=ROOT)
        assert done.returncode == 0, done.stderr


def test_an_unknown_command_names_the_nearest(s2pec: Run, tmp_path: Path) -> None:
    done = s2pec("trian", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: s2pecnet: there is no command 'trian'; did you mean 'train'? (have: train, ")


def test_requirements_are_the_dependencies_with_their_extras() -> None:
    def lines(name: str) -> set[str]:
        return {line for line in (ROOT / name).read_text().splitlines() if line and line[0] not in "#-"}

    extras = PROJECT["optional-dependencies"]
    # A checkout has the release of torch that the results were measured with, and torchaudio beside it.
    pinned = {line for line in lines("requirements.txt") if line.startswith("torch")}
    assert pinned == {"torch==2.11.0", "torchaudio==2.11.0"}
    core = {one for one in PROJECT["dependencies"] if not one.startswith("torch")}
    assert lines("requirements.txt") - pinned == {*core, *extras["report"], *extras["arena"], *extras["ssl"]}
    assert lines("requirements-dev.txt") == {*extras["dev"], *extras["export"], *extras["hub"][:2]}
    assert not any("torchaudio" in one for one in PROJECT["dependencies"])


def test_the_version_is_that_of_the_changelog() -> None:
    assert f"## {s2pecnet.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a package models/ and the modules utils, main, evaluation and data_utils of its own."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("utils", "main", "evaluation", "data_utils"):
        (folder / f"{name}.py").write_text("raise SystemExit('the module of the project')\n")
    (folder / "models").mkdir()
    (folder / "models" / "__init__.py").write_text("")
    (folder / "models" / "Mine.py").write_text(SYSTEM)
    return folder


BESIDE = """
import s2pecnet, s2pecnet.shipped as shipped
from s2pecnet.systems.registry import available, find_model
from s2pecnet.config.experiment import load_config
print(shipped.MODELS, find_model("AASIST").__name__, find_model("Mine").__name__, load_config("AASIST").architecture)
import models.Mine, importlib.util
assert importlib.util.find_spec("utils").origin.startswith(PROJECT)
"""


@pytest.mark.parametrize("how", ["wheel", "editable", "checkout"])
def test_it_works_beside_a_project_with_modules_of_the_same_names(
    how: str, project: Path, installed: Path, tmp_path: Path
) -> None:
    """Installed, installed by `pip install -e`, and as a checkout on the path."""
    program = BESIDE.replace("PROJECT", repr(str(project)))
    runner: list[object] = [sys.executable]
    path: Path | None = {"wheel": installed, "checkout": ROOT}.get(how)
    if how == "editable":
        source = tmp_path / "source"
        for name in sources():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
        done = python("-m", "venv", "--without-pip", "venv", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        runner = [tmp_path / "venv" / "bin" / "python"]
        packages = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
        # What the tests run with; pip leaves alone what is not in its own folder.
        (packages / "tests.pth").write_text(str(Path(torch.__file__).parents[1]))
        words: list[object] = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "-e", source]
        done = subprocess.run(
            list(map(str, [*runner, *words])), cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "S2PEC_MODELS")}
    if path:
        environment["PYTHONPATH"] = str(path)
    for command in (["-c", program], ["-m", "s2pecnet", "--help"]):
        done = subprocess.run(list(map(str, [*runner, *command])), cwd=project, env=environment, capture_output=True,
                              text=True, timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(
            "s2pecnet.models Model Model AASIST\n" if command[0] == "-c" else "usage: s2pecnet"
        )
