"""A command line ends in one line and the right status, whatever ended it."""

import subprocess
import sys

import pytest

from s2pecnet.cli import evaluate, predict
from s2pecnet.errors import InputError
from tests.helpers import ROOT

IMPORTS = "from s2pecnet.cli.command import run_command\nfrom s2pecnet.errors import InputError\n"


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("return None", 0, ""),
        ("return 1", 1, ""),
        ("raise InputError('x.conf:3: wrong')", 2, "error: x.conf:3: wrong"),
        ("open('/nowhere/x')", 2, "error: /nowhere/x: No such file or directory"),
        ("raise OSError(28, 'No space left on device')", 2, "error: No space left on device"),
        ("raise InputError('a\\x1b[2J\\0: wrong')", 2, "error: a\\x1b[2J\\x00: wrong"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_statuses(body: str, status: int, line: str) -> None:
    code = f"{IMPORTS}def main():\n    {body}\nrun_command(main)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr.strip() == line


def test_a_reader_that_leaves_is_no_error() -> None:
    code = IMPORTS + "def main():\n    for i in range(100000): print(i)\nrun_command(main)"
    command = f'"{sys.executable}" -c "{code}" | head -1'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_messages_from_a_loaders_worker_lose_their_traceback() -> None:
    wrapped = "Caught InputError in DataLoader worker process 0.\nOriginal Traceback:\n"
    wrapped += " ...\ns2pecnet.errors.InputError: a: b\n"
    assert str(InputError(wrapped)) == "a: b"


def test_a_path_that_the_terminal_cannot_show_is_no_error() -> None:
    code = IMPORTS + "def main():\n    print('M\\udcfcller')\nrun_command(main)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "M\\udcfcller\n", "")


@pytest.mark.parametrize("number", ["-1", "-1.5", "-.5", "-6.4e-05", "-1E+3", "-2.e1"])
def test_a_value_may_be_any_negative_number(number: str) -> None:
    of_evaluation = evaluate.build_parser().parse_args(["--cm", "A", "--threshold", number])
    assert of_evaluation.threshold == float(number)
    of_prediction = predict.build_parser().parse_args(["--config", "C", "--threshold", number, "x.wav"])
    assert float(of_prediction.threshold) == float(number)
