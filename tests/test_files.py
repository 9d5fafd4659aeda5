"""A file appears whole or not at all, and a run's folder loses nothing."""

import json
import os
import stat
from pathlib import Path

import pytest

from files import whole_file, write_json
from run_folder import RunFolder, keep_earlier


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.txt"
    with whole_file(path) as stream:
        stream.write("old")

    def fail() -> None:
        with whole_file(path) as stream:
            stream.write("half of the n")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["x.txt"]


def test_results_are_readable_by_others(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        with whole_file(tmp_path / "x", "wb") as stream:
            stream.write(b"1")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"eer": float("nan")})
    assert not (tmp_path / "x.json").exists()
    write_json(tmp_path / "x.json", {"eer": 0.1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"eer": 0.1}


def test_earlier_results_are_moved_aside(tmp_path: Path) -> None:
    for number in range(3):
        kept = keep_earlier(tmp_path / "results.json")
        assert (kept.name if kept else None) == (f"results.{number}.json" if number else None)
        (tmp_path / "results.json").write_text(str(number))
    assert (tmp_path / "results.1.json").read_text() == "0"


def test_a_taken_folder_is_moved_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder.for_training(tmp_path / "run_v1.5").log("first")
    RunFolder.for_training(tmp_path / "run_v1.5").log("second")
    assert (tmp_path / "run_v1.5.1" / "metric_log.txt").read_text() == "first\n"
    assert (tmp_path / "run_v1.5" / "metric_log.txt").read_text() == "second\n"
    assert "kept the earlier run as" in capsys.readouterr().out
