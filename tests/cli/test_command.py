"""What all commands share: closed streams, no memory, outputs that are inputs."""

import subprocess
import sys
from pathlib import Path

import pytest

from s2pecnet.cli import calibrate, fuse
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
