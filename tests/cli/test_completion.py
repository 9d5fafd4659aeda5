"""The completion script, in a real bash."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from s2pecnet.cli import COMMANDS, completion
from s2pecnet.config.files import shipped_configs

# What bash does when Tab is pressed behind these words.
ASK = """
source {script}
complete -p s2pecnet > /dev/null || exit 1
COMP_WORDS=(s2pecnet {words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
COMP_LINE="${{COMP_WORDS[*]}}"
COMP_POINT=${{#COMP_LINE}}
_shtab_s2pecnet
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    path = tmp_path_factory.mktemp("completion") / "s2pecnet"
    path.write_text(completion.script("bash"))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place with files and folders to complete."""
    (tmp_path / "runs").mkdir()
    for name in ("mine.conf", "scores.txt", "Rock and Roll.wav"):
        (tmp_path / name).touch()
    return tmp_path


def ask(script: Path, folder: Path, *words: str) -> set[str]:
    text = ASK.format(script=shlex.quote(str(script)), words=" ".join(map(shlex.quote, words)))
    done = subprocess.run(["bash", "-c", text], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(done.stdout.splitlines()) - {""}


def test_commands_and_options(bash_script: Path, folder: Path) -> None:
    assert ask(bash_script, folder, "") == set(COMMANDS)
    assert ask(bash_script, folder, "pre") == {"predict"}
    assert ask(bash_script, folder, "train", "--co") == {"--config", "--comment"}
    assert ask(bash_script, folder, "arena", "") == {"scores", "submission", "check"}
    assert {"--scores", "--scores-url"} <= ask(bash_script, folder, "arena", "submission", "--scores")


def test_choices(bash_script: Path, folder: Path) -> None:
    assert ask(bash_script, folder, "predict", "--format", "") == {"csv", "json", "jsonl", "table"}
    assert ask(bash_script, folder, "train", "--device", "") == {"auto", "cpu", "cuda"}
    assert ask(bash_script, folder, "predict", "--threshold", "") == {"eer", "llr", "min-dcf"}
    assert ask(bash_script, folder, "fuse", "--method", "l") == {"logistic"}


def test_configs_are_names_and_files(bash_script: Path, folder: Path) -> None:
    assert ask(bash_script, folder, "train", "--config", "AAS") == {"AASIST", "AASIST-L"}
    assert ask(bash_script, folder, "score", "--config", "") == {*shipped_configs(), *map(str, names(folder))}
    assert ask(bash_script, folder, "predict", "--config", "mi") == {"mine.conf"}


def test_files_and_folders(bash_script: Path, folder: Path) -> None:
    assert ask(bash_script, folder, "evaluate", "--cm", "sc") == {"scores.txt"}
    assert ask(bash_script, folder, "predict", "--config", "AASIST", "--weights", "") == names(folder)
    assert ask(bash_script, folder, "predict", "--config", "AASIST", "ru") == {"runs"}
    assert ask(bash_script, folder, "report", "") == names(folder)
    assert ask(bash_script, folder, "train", "--output_dir", "") == {"runs"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_gets_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.main([shell]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert "AASIST-L" in text or shell == "tcsh"
