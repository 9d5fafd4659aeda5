"""Nothing that a config, a protocol or a comment says makes a run write outside of --output_dir and --cache_dir."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2pecnet.cli import train
from s2pecnet.config.experiment import load_config
from s2pecnet.conventions import SPLITS
from s2pecnet.corpora.demo import make_demo_corpus
from s2pecnet.corpora.detect import find_split
from s2pecnet.errors import InputError
from s2pecnet.runs.folder import run_name
from s2pecnet.systems import build
from s2pecnet.systems.weights import save_weights
from tests.helpers.samples import TINIEST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    save_weights(build.get_model(TINIEST["model_config"], "cpu"), path)
    return path


class World:
    """A folder with a corpus, a project that is the working directory, and a victim that no run is told to write to."""

    def __init__(self, root: Path, corpus: Path):
        self.root, self.project, self.victim = root, root / "project", root / "victim"
        self.output, self.cache = root / "project" / "out", root / "project" / "kept"
        self.corpus = shutil.copytree(corpus, root / "LA")
        self.project.mkdir()
        self.victim.mkdir()
        (self.victim / "thesis.tex").write_text("years of work")

    def outside(self) -> dict[str, bytes | None]:
        """Every file that is not in the two folders that a run may write, with its content; folders with None."""
        return {
            str(path): path.read_bytes() if path.is_file() else None
            for path in self.root.rglob("*")
            if not path.is_relative_to(self.output) and not path.is_relative_to(self.cache)
        }

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        before = self.outside()
        yield
        assert self.outside() == before

    def run(self, config: dict[str, Any], *arguments: str, file: str = "odd.conf") -> bool:
        """Run main.py; whether it did not refuse the input. Nothing outside may change, whatever it does."""
        path = self.project / file
        path.write_text(json.dumps(TINIEST | {"database_path": str(self.corpus), "num_epochs": 1} | config))
        folders = ["--output_dir", str(self.output), "--cache_dir", str(self.cache), "--device", "cpu"]
        with self.unchanged():
            try:
                train.main(["--config", str(path), *folders, *arguments])
            except (InputError, OSError):
                return False
        return True


@pytest.fixture(scope="module")
def sound_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_corpus(tmp_path_factory.mktemp("sound") / "LA", seed=3, clips_per_split=dict.fromkeys(SPLITS, 6))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound_corpus: Path) -> World:
    world = World(tmp_path, sound_corpus)
    monkeypatch.chdir(world.project)
    return world


# {victim} is the absolute path of a folder that is not to be touched; the others lead to it from the run's folder.
PATHS = [
    "{victim}/x",
    "{victim}/thesis.tex",
    "../../../victim/x",
    "..",
    "../x",
    "a/../../../../victim/x",
    "~/x",
    "x\0y",
    "\n",
]


@pytest.mark.parametrize("value", [*PATHS, ".", "", "weights", "state", "Results.json", "a\\b", ".hidden"])
def test_names_of_the_score_file(world: World, weights: Path, value: str) -> None:
    value = value.format(victim=world.victim)
    assert not world.run({"eval_output": value}, "--eval", "--eval_model_weights", str(weights))


@pytest.mark.parametrize("value", PATHS)
def test_tracks(world: World, weights: Path, value: str) -> None:
    value = value.format(victim=world.victim)
    assert not world.run({"track": value}, "--eval", "--eval_model_weights", str(weights))


@pytest.mark.parametrize("value", [*PATHS, ".", "...", "a b"])
def test_comments(world: World, weights: Path, value: str) -> None:
    value = value.format(victim=world.victim)
    assert not world.run({}, "--eval", "--eval_model_weights", str(weights), "--comment", value)


@pytest.mark.parametrize("key", ["asv_score_path", "asv_score_path_dev", "model_path", "database_path"])
@pytest.mark.parametrize("value", PATHS)
def test_paths_that_are_read_are_not_written(world: World, key: str, value: str) -> None:
    arguments = ["--eval"] if key in ("asv_score_path", "model_path") else []
    assert not world.run({key: value.format(victim=world.victim)}, *arguments)


@pytest.mark.parametrize("key", ["name", "source", "raw", "output_dir", "cache_dir", "comment"])
def test_keys_that_a_config_does_not_have(world: World, weights: Path, key: str) -> None:
    """They are ignored with a warning; what the run fills in itself is not taken from the file."""
    done = world.run({key: f"{world.victim}/x"}, "--eval", "--eval_model_weights", str(weights))
    assert done
    assert (world.output / "LA_odd_ep1_bs6").is_dir()


@pytest.mark.parametrize("utterance", [*PATHS, "x/../../../../../victim/x", "\\\\host\\x"])
@pytest.mark.parametrize("on_bad_audio", ["error", "skip"])
def test_utterances(world: World, weights: Path, utterance: str, on_bad_audio: str) -> None:
    protocol = find_split(world.corpus, "LA", "eval").protocol
    first, *others = protocol.read_text().splitlines()
    name = utterance.format(victim=world.victim)
    protocol.write_text("\n".join([first.replace(first.split()[1], name), *others]))
    config = {"on_bad_audio": on_bad_audio, "audio_cache": True}
    assert not world.run(config, "--eval", "--eval_model_weights", str(weights))


@pytest.mark.parametrize(
    "file",
    ["..conf", "...conf", ".conf", "-rf.conf", "$(touch x) `touch y`.conf", "a b;c.conf", "%s{0}.conf", "é\u202e.conf"],
)
def test_odd_names_of_config_files(world: World, weights: Path, file: str) -> None:
    assert world.run({}, "--eval", "--eval_model_weights", str(weights), file=file)
    (folder,) = (path for path in world.output.iterdir() if not path.name.startswith("."))
    assert folder.name == f"LA_{Path(file).stem}_ep1_bs6"


def test_a_complete_training_writes_into_its_folders_alone(world: World) -> None:
    config = {"eval_output": "scores..txt", "audio_cache": True, "on_bad_audio": "skip", "save_every_steps": 1}
    assert world.run(config, "--comment", "a..b", file="..Müller $(x).conf")
    assert {path.name for path in world.project.iterdir()} >= {"out", "kept"}


@pytest.mark.parametrize("file", [os.fsdecode(b"M\xfcller.conf"), "a\nb.conf", "\x1b[2J.conf"])
def test_names_of_config_files_that_no_folder_should_have(world: World, file: str) -> None:
    """TensorBoard does not write to a folder whose name is no text, and lines are to stay lines."""
    assert not world.run({}, file=file)
    assert not world.output.exists()
    with pytest.raises(InputError, match=r"--output_dir .*: expected a path without control characters"):
        train.main(["--config", "x.conf", "--output_dir", file])


names = st.text(max_size=12) | st.sampled_from([path.format(victim="/victim") for path in PATHS])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(track=names, eval_output=names, stem=names, comment=names)
def test_every_name_of_a_run_lies_in_its_output(
    tmp_path: Path, track: str, eval_output: str, stem: str, comment: str
) -> None:
    path = tmp_path / f"{stem.replace('/', '').replace(chr(0), '')}.conf"
    path.write_text(json.dumps(TINIEST | {"track": "LA", "eval_output": "x"}))
    for changes in ([f"track={json.dumps(track)}"], [f"eval_output={json.dumps(eval_output)}"], []):
        try:
            config = load_config(path, changes)
            words = ["--config", str(path), *(["--comment", comment] if comment else [])]
            given = train.parse_arguments([*words]).comment
        except (InputError, SystemExit):
            continue
        output = tmp_path / "out"
        folder = output / run_name(config, given)
        assert Path(os.path.normpath(folder)).parent == output
        assert Path(os.path.normpath(folder / config.eval_output)).parent == folder


def test_the_watch_sees_what_is_written_outside(world: World) -> None:
    for spoil in (
        lambda: (world.victim / "new").write_text(""),
        lambda: (world.project / "made").mkdir(),
        lambda: (world.victim / "thesis.tex").write_text("gone"),
        lambda: shutil.rmtree(world.victim),
    ):
        with pytest.raises(AssertionError), world.unchanged():
            spoil()
