"""What all commands share: closed streams, no memory, outputs that are inputs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from s2pecnet.cli import calibrate, evaluate, fuse
from s2pecnet.cli.command import check_output, run_command
from s2pecnet.errors import InputError
from tests.helpers import ROOT


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_as_dev_null(cm_file: Path, closed: str) -> None:
    command = f"exec {sys.executable} evaluation.py --cm {cm_file} {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_no_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise MemoryError

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: out of memory\n")


def test_an_output_that_is_an_input_is_refused(cm_file: Path, tmp_path: Path) -> None:
    before = cm_file.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(cm_file)
    for main, arguments in (
        (calibrate.main, ["--cm", cm_file, "--output", cm_file]),
        (calibrate.main, ["--cm", cm_file, "--output", link]),
        (fuse.main, ["--method", "mean", "--apply", cm_file, cm_file, "--output", cm_file]),
    ):
        with pytest.raises(InputError, match=r"--output .*: that is an input of this command"):
            main(list(map(str, arguments)))
    assert cm_file.read_bytes() == before
    check_output(tmp_path / "new", (cm_file, None))
    check_output(None, (cm_file,))


@pytest.mark.parametrize("option", ["--asv", "--output", "--threshold", "--names"])
def test_an_option_with_an_empty_value_is_refused(option: str, cm_file: Path) -> None:
    """As a shell gives it, where a variable is not set."""
    with pytest.raises(InputError, match=f"{option}: its value is empty"):
        evaluate.main(["--cm", str(cm_file), option, ""])


def test_thresholds_of_probabilities_are_printed_so_that_they_give_their_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cm.txt"
    rows = [(f"b{number}", "- bonafide", 1 - 10.0 ** -(9 + number)) for number in range(3)]
    rows += [(f"s{number}", "A07 spoof", 1 - 10.0 ** -(6 + number)) for number in range(3)]
    path.write_text("".join(f"{name} {key} {score!r}\n" for name, key, score in rows))
    assert evaluate.main(["--cm", str(path)]) == 0
    threshold = re.search(r"CM EER .*threshold (\S+)\)", capsys.readouterr().out)
    assert threshold
    assert evaluate.main(["--cm", str(path), "--threshold", threshold[1]]) == 0
    out = capsys.readouterr().out
    for rate in ("FAR", "FRR"):
        assert re.search(rf"^ *{rate} +0\.0+ %", out, re.MULTILINE), out


def test_replicates_have_an_end(cm_file: Path) -> None:
    with pytest.raises(InputError, match="expected a number from 1 to 1,000,000"):
        evaluate.main(["--cm", str(cm_file), "--bootstrap", str(10**18)])


def test_names_that_nobody_reads_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    long = "x" * 230
    path.write_text(f"{long} 1.0\nb 2.0\n")
    (tmp_path / "keys.txt").write_text(f"{long} bonafide\nb spoof\n")
    given = ["--method", "mean", "--apply", str(path), "--keys", str(tmp_path / "keys.txt")]
    with pytest.raises(InputError, match=r"fused.txt: 'xxx.* has more than 200 bytes, the most of a name"):
        fuse.main([*given, "--output", str(tmp_path / "fused.txt")])
