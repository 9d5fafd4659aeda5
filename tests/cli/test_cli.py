"""One map of all commands; each one's help reads well, has examples, and imports nothing slow."""

import re
import shlex
import subprocess
import sys

import pytest

from s2pecnet import cli
from s2pecnet.cli import COMMANDS
from s2pecnet.errors import InputError
from tests.helpers import ROOT

NAMES = sorted(COMMANDS)


def help_of(name: str, prog: str) -> str:
    return COMMANDS[name].parser(prog).format_help()


def test_the_map_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(
        re.search(rf"^  {name} +{re.escape(command.does)}$", out, re.MULTILINE) for name, command in COMMANDS.items()
    )


def test_every_command_is_in_the_map() -> None:
    modules = {path.stem for path in (ROOT / "s2pecnet" / "cli").glob("*.py")} - {"__init__", "command"}
    assert modules == {command.module for command in COMMANDS.values()}


def test_an_unknown_command() -> None:
    with pytest.raises(InputError, match=r"no command 'evalaute'; did you mean 'evaluate'\?"):
        cli.main(["evalaute"])


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples_in_the_words_of_the_command(name: str) -> None:
    text = help_of(name, f"s2pecnet {name}")
    assert text.startswith(f"usage: s2pecnet {name} ")
    examples = text.partition("example")[2]
    assert f"  s2pecnet {name} " in examples
    assert not re.search(r"\bpython \S+|\b\w+\.py\b", text), "a command of the checkout is left"
    assert ".conf" not in examples or "config/" not in examples


@pytest.mark.parametrize(
    ("name", "script"), [("train", "main.py"), ("evaluate", "evaluation.py"), ("download", "download_dataset.py")]
)
def test_help_of_a_script_has_examples_in_its_words(name: str, script: str) -> None:
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"usage: python {script} ")
    assert f"  python {script} --" in done.stdout.partition("example")[2]


@pytest.mark.parametrize("name", NAMES)
def test_help_imports_nothing_heavy(name: str) -> None:
    """And every option says what it is for."""
    code = (
        "import importlib, sys\n"
        f"parser = importlib.import_module('s2pecnet.cli.{COMMANDS[name].module}').build_parser('x')\n"
        "parser.format_help()\n"
        "assert all(action.help for action in parser._actions), [a.dest for a in parser._actions if not a.help]\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'soundfile', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_lines_of_help_fit_a_screen(name: str) -> None:
    examples = help_of(name, f"s2pecnet {name}").partition("example")[2]
    assert max(map(len, examples.splitlines())) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_commands_that_the_parsers_take(name: str) -> None:
    """Every line of the examples that begins with our command goes through the real parser."""
    examples = help_of(name, f"s2pecnet {name}").partition("example")[2]
    examples = re.sub(r"\\\n\s*", "", examples)
    lines = [line.strip() for line in examples.splitlines() if line.startswith("  s2pecnet ")]
    assert lines
    for line in lines:
        words = shlex.split(re.split(r"\s>|   ", line)[0])[1:]
        command = COMMANDS[words[0]]
        command.parser(f"s2pecnet {words[0]}").parse_args([*command.arguments, *words[1:]])


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^make (\w+) +\S", done.stdout, re.MULTILINE) == targets[1].split()
