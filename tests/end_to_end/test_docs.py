"""Every command of README.md and docs/ is run, on small inputs that it names; what cannot be run here is listed.

A page's commands run in its order and in one folder, as a reader would type them. A command that no program here knows,
or that names a file which `doc_commands.make_workspace` does not make, fails: who documents a command brings its input.
"""

import contextlib
import glob
import importlib
import io
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2pecnet import cli
from s2pecnet.cli import COMMANDS
from s2pecnet.corpora import demo
from s2pecnet.errors import InputError
from tests.conftest import SHARED
from tests.helpers.doc_commands import (
    PAGES,
    ROOT,
    DocCommand,
    commands_of,
    copy_workspace,
    make_workspace,
    python_blocks,
)

pytestmark = pytest.mark.slow

SCRIPTS = {
    "main.py": "s2pecnet.cli.train",
    "evaluation.py": "s2pecnet.cli.evaluate",
    "download_dataset.py": "s2pecnet.cli.download",
    "-m tools.config_reference": "tools.config_reference",
    "-m benchmarks": "benchmarks.__main__",
    "-m benchmarks.augmentation": "benchmarks.augmentation",
}

# Scripts that need nothing of this repository.
EXAMPLES = ROOT / "examples"

# Files that a page names and that are not in the repository: the reader's own, or downloaded.
OWN_FILES = {
    "models/MyCountermeasure.py",
    "config/MyCountermeasure.conf",
    "models/weights",
    "models/weights/",
    "models/weights/AASIST.pth",
}

# Words that stand for the reader's own.
PLACEHOLDERS = {"SCORES": "eval_scores.txt", "PATH...": "talk.mp3", "1,2,3": "1,2"}

RAN: set[str] = set()

# Of the demo corpus, which has 780 clips.
DEMO_CLIPS = {"train": 12, "dev": 9, "eval": 9}

# Behind the commands that match: a system and a corpus of this size take seconds.
_TINY = [
    "batch_size=24", "num_epochs=1", "model_config.nb_samp=2400", "model_config.filts=[12,[1,4],[4,4],[4,8],[8,8]]",
    "model_config.gat_dims=[8,8]",
]  # fmt: skip
SMALLER = {
    r"main\.py (?!--eval).*\bAASIST": _TINY,
    r"main\.py (?!--eval).*\bS2pecNet": [*_TINY, "model_config.filts=[24,[1,4],[4,4],[4,8],[8,8]]",
                                         "model_config.nb_samp=4800", "model_config.nb_frames=50"],
    # Fewer trials are left.
    r"main\.py .*leave_out": ["batch_size=12"],
    r"main\.py .*\bMyCountermeasure": ["batch_size=24", "num_epochs=1", "model_config.nb_samp=2400"],
    r"main\.py .*\bdemo": ["num_epochs=1", "model_config.filts=[24,[1,4],[4,4],[4,8],[8,8]]"],
    r"main\.py .*--eval .*\bAASIST": ["model_config.nb_samp=4800"],
    r"predict(?:\.py)? (?!.*--hop).*\bAASIST": ["model_config.nb_samp=16000"],
    # The corpus here is of the track LA, and no other.
    r"--set track=PA": ["track=LA"],
}  # fmt: skip

# Words that stand for something else in some commands: a clip that cannot be read ends an export.
REPLACED = {
    r"export(?:\.py)? .*clips/": {"clips/": "clips/LA_D_1012573.flac"},
    r"score_exported\.py": {"clips/LA_E_1003711.flac": "clips/LA_D_1012573.flac"},
}

# Python that is not run, and why.
PYTHON_NOT_RUN = {r"torch\.export\.load": "tests/export/test_export.py makes and loads such a file; it takes a minute"}

# What is not run, and why; its arguments go through the real parser all the same.
NOT_RUN = {
    r"python download_dataset\.py(?: --out \S+)?": "fetches 7 GB",
    r"python -m benchmarks\b.*": "minutes of measuring; tests/benchmarks/ runs each task",
    r"(?:python3 -m venv|(?:\.venv/bin/)?(?:python -m )?pip install)\b.*": "installs from the network",
    r"\.venv/bin/python -m pytest": "the tests run themselves",
    r".*\bspeech-spoof-bench .*": "the Arena's harness is on no package index",
    r"s2pecnet card .*": "tests/test_hub.py makes the card of a run",
    r"s2pecnet export .*\bRawGATST.*": "a system of full size; tests/export/test_export.py has files refused",
}

# Commands that a page shows because they fail: the exit status, and the message.
FAILING = {
    r"s2pecnet arena submission (?!.*--contact).*": (2, "missing: system.description"),
    r"s2pecnet predict .*clips/ talk\.mp3": (1, ""),
}


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("workspace"), SHARED if SHARED.is_dir() else None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_the_page_runs(
    page: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy_workspace(workspace, tmp_path / "here"))
    monkeypatch.setenv("S2PEC_MODELS", "")
    for split, size in DEMO_CLIPS.items():
        monkeypatch.setitem(demo.DEFAULT_CLIPS, split, size)
    for command in commands_of(page):
        run(command, monkeypatch)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.stem)
def test_the_python_of_the_page_runs(
    page: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy_workspace(workspace, tmp_path / "here"))
    names: dict[str, object] = {}
    for line, text in python_blocks(page):
        if any(re.search(rule, text) for rule in PYTHON_NOT_RUN):
            continue
        exec(compile("\n" * line + text, str(page), "exec"), names)


def test_the_commands_are_found() -> None:
    """The extraction sees what a reader sees: a few that are there, of every form."""
    texts = {command.text for page in PAGES for command in commands_of(page)}
    assert "make demo" in {text.partition("  ")[0] for text in texts}
    assert any(text.startswith("ls clips/*.flac | s2pecnet predict") for text in texts)
    assert any("\n" in text and "Adapter()" in text for text in texts)
    assert any(text.startswith("s2pecnet fuse --cm") and text.endswith("--output fused.txt") for text in texts)
    assert len(texts) > 50


def test_a_command_that_nobody_knows_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("python no_such_script.py", "python evaluation.py --no-such-option", "make no-such-target"):
        with pytest.raises(pytest.fail.Exception, match=r"docs/x\.md:1"):
            run(DocCommand("docs/x.md:1", text), monkeypatch)


def test_each_rule_is_needed() -> None:
    """A rule that matches no command any more has to go."""
    texts = [command.text for page in PAGES for command in commands_of(page)]
    for pattern in (*NOT_RUN, *FAILING, *SMALLER):
        assert any(re.search(pattern, text) for text in texts), pattern


def run(command: DocCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command as the page shows it; any failure names its place. What runs main.py does so on one page alone."""
    plain = re.sub(r"\s+#.*", "", command.text)
    if plain in RAN:
        return
    if "main.py" in plain:
        RAN.add(plain)
    wanted, message = next((end for rule, end in FAILING.items() if re.fullmatch(rule, command.text)), (0, ""))
    not_run = any(re.fullmatch(rule, command.text.partition("  #")[0].strip()) for rule in NOT_RUN)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            status = parse_only(command) if not_run else run_text(command.text, monkeypatch)
        except (InputError, OSError) as error:
            status = 2
            errors.write(str(error))
        except SystemExit as left:
            status = int(left.code or 0)
    if status != wanted or message not in errors.getvalue():
        pytest.fail(f"{command.place}: {command.text}\nexit status {status}, expected {wanted}\n{errors.getvalue()}")


def run_text(text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run one line of shell: variables in front, a pipe or a redirection, one of our commands or a program."""
    *producer, text = text.rsplit(" | ", 1)
    text, _, target = text.partition(" > ")
    words = shlex.split(text, comments=True)
    while re.fullmatch(r"[A-Z0-9_]+=\S*", words[0]):
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    output = io.StringIO()
    with contextlib.redirect_stdout(output), standard_input(*producer):
        status = run_words(words, text)
    if target:
        Path(target.strip()).write_text(output.getvalue())
    return status


@contextlib.contextmanager
def standard_input(producer: str = "true") -> Iterator[None]:
    """What a program prints, as the standard input."""
    before = os.dup(0)
    try:
        with subprocess.Popen(["bash", "-c", producer], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            os.dup2(process.stdout.fileno(), 0)
            yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def run_words(words: list[str], text: str) -> int:
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        return subprocess.run(["make", "--dry-run", *rest], cwd=ROOT, capture_output=True).returncode
    if program == "s2pecnet":
        return cli.main(mapped(rest, text))
    if program == "python" and rest[0] == "-c":
        exec(compile(rest[1], text, "exec"), {})
        return 0
    if program == "python":
        script, *arguments = [" ".join(rest[:2]), *rest[2:]] if rest[0] == "-m" else rest
        if (EXAMPLES / script).is_file():
            return subprocess.run([sys.executable, EXAMPLES / script, *mapped(arguments, text)]).returncode
        if script not in SCRIPTS:
            raise InputError(f"no script {script}")
        return int(importlib.import_module(SCRIPTS[script]).main(mapped(arguments, text)) or 0)
    return subprocess.run(["bash", "-c", text], capture_output=True).returncode


def parse_only(command: DocCommand) -> int:
    """Send the arguments of one of our scripts through its parser; of other programs there is nothing to check."""
    words = shlex.split(command.text, comments=True)
    script = " ".join(words[1:3]) if words[1] == "-m" else words[1]
    if words[0] == "s2pecnet":
        COMMANDS[words[1]].parser("s2pecnet").parse_args([*COMMANDS[words[1]].arguments, *words[2:]])
    if words[0] == "python" and script in SCRIPTS:
        rest = words[3:] if words[1] == "-m" else words[2:]
        importlib.import_module(SCRIPTS[script]).build_parser().parse_args(rest)
    return 0


def mapped(arguments: list[str], text: str) -> list[str]:
    """Arguments with placeholders and globs replaced, and with settings that make the work small."""
    words: list[str] = []
    for word in arguments:
        found = sorted(glob.glob(word)) if "*" in word else []
        words += found or [PLACEHOLDERS.get(word, word)]
    for pattern, others in REPLACED.items():
        if re.search(pattern, text):
            words = [others.get(word, word) for word in words]
    for pattern, settings in SMALLER.items():
        if re.search(pattern, as_script(text)):
            words += [part for setting in settings for part in ("--set", setting)]
    return words


def as_script(text: str) -> str:
    """`s2pecnet train` and `s2pecnet score` as calls of main.py: rules are written once."""
    return text.replace("s2pecnet train", "main.py").replace("s2pecnet score", "main.py --eval")


def test_links_lead_somewhere() -> None:
    """Links between the pages, and files of the checkout that a page links to."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_named_files_exist() -> None:
    """Files and folders of the repository that a page names by their paths."""
    for page in PAGES:
        for name in re.findall(
            r"`((?:tests|s2pecnet|models|config|docs|examples|tools|benchmarks)/[\w./-]*)", page.read_text()
        ):
            assert name in OWN_FILES or (ROOT / name).exists(), f"{page.name}: {name}"


def test_named_objects_exist() -> None:
    """Modules, classes and functions of the package that a page names by their paths."""
    for page in PAGES:
        for name in re.findall(r"`(s2pecnet(?:\.\w+)+)", page.read_text()):
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                pytest.fail(f"{page.name}: {name}")


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"docs/{page.name}" in readme, page.name
    assert os.access(ROOT / "README.md", os.R_OK)
