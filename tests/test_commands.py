"""One map of all commands; each one's help reads well, has examples, and imports nothing slow."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import commands
from commands import COMMANDS
from errors import InputError

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(COMMANDS)


def help_of(name: str, prog: str) -> str:
    parser: argparse.ArgumentParser = importlib.import_module(COMMANDS[name].module).build_parser(prog)
    return parser.format_help()


def test_the_map_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main([]) == 0
    out = capsys.readouterr().out
    assert all(
        re.search(rf"^  {name} +{re.escape(command.does)}$", out, re.MULTILINE) for name, command in COMMANDS.items()
    )


def test_every_script_is_in_the_map() -> None:
    scripts = {path.stem for path in ROOT.glob("*.py") if "run_command(main)" in path.read_text()}
    assert scripts == {command.module for command in COMMANDS.values()} - {"benchmarks.__main__"} | {"config_reference"}


def test_an_unknown_command() -> None:
    with pytest.raises(InputError, match=r"no command 'evalaute'; did you mean 'evaluate'\?"):
        commands.main(["evalaute"])


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples_in_the_words_of_the_command(name: str) -> None:
    text = help_of(name, f"s2pecnet {name}")
    assert text.startswith(f"usage: s2pecnet {name} ")
    examples = text.partition("example")[2]
    assert f"  s2pecnet {name} " in examples
    assert not re.search(r"\bpython \S+|\b\w+\.py\b", text), "a command of the checkout is left"
    assert ".conf" not in examples or "config/" not in examples


@pytest.mark.parametrize("name", NAMES)
def test_help_of_the_script_has_examples_in_its_words(name: str) -> None:
    script = COMMANDS[name].script
    text = help_of(name, script)
    examples = text.partition("example")[2]
    assert f"  python {script} " in examples or name == "completion"


@pytest.mark.parametrize("name", NAMES)
def test_help_is_text_without_torch(name: str) -> None:
    """And every option says what it is for."""
    code = (
        "import importlib, sys\n"
        f"parser = importlib.import_module({COMMANDS[name].module!r}).build_parser('x')\n"
        "parser.format_help()\n"
        "assert all(action.help for action in parser._actions), [a.dest for a in parser._actions if not a.help]\n"
        "assert 'torch' not in sys.modules, 'torch is imported'\n"
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
        parser = importlib.import_module(command.module).build_parser(f"s2pecnet {words[0]}")
        parser.parse_args([*command.arguments, *words[1:]])


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^make (\w+) +\S", done.stdout, re.MULTILINE) == targets[1].split()
