"""`s2pecnet predict --output --resume`: wherever a run is cut, the same command ends with the same bytes."""

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from s2pecnet.cli import predict
from s2pecnet.errors import InputError
from s2pecnet.scoring import resume
from s2pecnet.scoring.recordings import FileScorer
from s2pecnet.scoring.resume import Table, in_groups
from s2pecnet.systems.inputs import Inputs
from s2pecnet.systems.registry import find_model
from tests.helpers import ROOT
from tests.helpers.samples import TINIEST

CLIPS = 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny.conf, weights.pth, other.pth, and audio/ with clips of different lengths, two of which are none."""
    root = tmp_path_factory.mktemp("resume")
    (root / "tiny.conf").write_text(json.dumps(TINIEST))
    torch.manual_seed(1)
    model = find_model("AASIST")(TINIEST["model_config"])
    for name in ("weights", "other"):
        torch.save(model.state_dict(), root / f"{name}.pth")
        torch.nn.init.uniform_(model.get_parameter("out_layer.bias"), 2, 3)
    (root / "audio").mkdir()
    generator = np.random.default_rng(0)
    for number in range(CLIPS):
        samples = generator.normal(0, 0.1, 1000 + 1500 * (number % 4))
        soundfile.write(root / "audio" / f'{number:02d} "a",b.wav', samples, 16000)
    for number in (2, 7):
        (root / "audio" / f'{number:02d} "a",b.wav').write_text("no audio")
    return root


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "GROUP", 4)


def run(folder: Path, output: Path, format: str, *more: str, weights: str = "weights", audio: str = "audio") -> int:
    return predict.main(["--config", str(folder / "tiny.conf"), "--weights", str(folder / f"{weights}.pth"),
                         "--device", "cpu", "--threshold", "0", "--format", format, "--output", str(output),
                         *more, str(folder / audio)])  # fmt: skip


@pytest.fixture(scope="module", params=["csv", "jsonl"])
def whole(request: pytest.FixtureRequest, folder: Path) -> tuple[str, bytes]:
    """A format, and what an uninterrupted run writes in it."""
    output = folder / f"whole.{request.param}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(resume, "GROUP", 4)
        assert run(folder, output, request.param) == 1
    return request.param, output.read_bytes()


def test_a_run_ends_with_the_same_bytes_wherever_it_was_cut(
    folder: Path, whole: tuple[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between rows, within a row, within the header; and behind a tail of zeros, as a power cut leaves it."""
    format, content = whole
    ends = [0, *(number + 1 for number, byte in enumerate(content) if byte == ord("\n"))]
    assert len(ends) == CLIPS - 2 + 1 + (format == "csv")
    run(folder, tmp_path / "plain", format)
    says = capsys.readouterr().err.splitlines()[-1]
    for number, cut in enumerate([*ends, *(end + 5 for end in ends[:-1])]):
        output = tmp_path / f"{number}.txt"
        output.write_bytes(content[:cut] + (b"\0" * 9 if number % 2 and cut else b""))
        assert run(folder, output, format, "--resume") == 1
        assert output.read_bytes() == content, cut
        # Files that were done before are counted, too.
        assert capsys.readouterr().err.splitlines()[-1] == says


def test_only_the_last_group_is_scored_again(
    folder: Path, whole: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    format, content = whole
    rows = content.splitlines(keepends=True)
    scored: list[str] = []
    read = FileScorer._read

    def counted(self: FileScorer, path: str, on_second: Any) -> Any:
        scored.append(Path(path).name[:2])
        return read(self, path, on_second)

    monkeypatch.setattr(FileScorer, "_read", counted)
    output = tmp_path / "table"
    # The rows of 00, 01, 03, 04, 05: 02 is no audio.
    output.write_bytes(b"".join(rows[: 5 + (format == "csv")]))
    run(folder, output, format, "--resume")
    assert sorted(scored) == ["04", "05", "06", "07", "08", "09", "10"]


def test_a_table_of_other_weights_options_or_files_is_left_as_it_is(
    folder: Path, whole: tuple[str, bytes], tmp_path: Path
) -> None:
    format, content = whole
    # Of the group that is scored again, clips of several windows are done: 04, 05, 06.
    part = b"".join(content.splitlines(keepends=True)[: 6 + (format == "csv")]) + b"dam"
    output = tmp_path / "table"
    (folder / "few").mkdir(exist_ok=True)
    if not (folder / "few" / "x.wav").exists():
        os.link(folder / "audio" / '00 "a",b.wav', folder / "few" / "x.wav")
    for changed, message in (
        ({"weights": "other"}, "was it written with other weights"),
        ({"more": "--hop=0.1"}, "was it written with other weights"),
        ({"audio": "few"}, "is of none of the paths given"),
    ):
        output.write_bytes(part)
        more = ["--resume", *([changed.pop("more")] if "more" in changed else [])]
        with pytest.raises(InputError, match=message):
            run(folder, output, format, *more, **changed)
        assert output.read_bytes() == part


def test_a_table_has_the_ratios_of_one_calibration(folder: Path, whole: tuple[str, bytes], tmp_path: Path) -> None:
    format, _ = whole
    fitted = {"eer_threshold": 0.0, "min_dcf_threshold": 0.0, "p_spoof": 0.05, "c_miss": 1.0, "c_fa": 10.0,
              "n_bonafide": 9, "n_spoof": 9, "separable": False, "fitted_on": "dev"}  # fmt: skip
    for name, slope, offset in (("one", 1.0, 0.5), ("other", 2.0, -9.0)):
        (tmp_path / name).write_text(json.dumps({"slope": slope, "offset": offset, **fitted}))
    complete, output = tmp_path / "complete", tmp_path / "table"
    run(folder, complete, format, "--calibration", str(tmp_path / "one"))
    part = b"".join(complete.read_bytes().splitlines(keepends=True)[: 3 + (format == "csv")])
    for given in (["--calibration", str(tmp_path / "other")], []):
        output.write_bytes(part)
        with pytest.raises(InputError, match="was it written with other weights, options or files"):
            run(folder, output, format, "--resume", *given)
        assert output.read_bytes() == part
    run(folder, output, format, "--resume", "--calibration", str(tmp_path / "one"))
    assert output.read_bytes() == complete.read_bytes()


def test_scores_that_differ_by_rounding_are_kept_with_a_warning(
    folder: Path, whole: tuple[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    format, content = whole
    if format != "jsonl":
        pytest.skip("written for one format")
    first, *rest = content.decode().splitlines()
    row = json.loads(first)
    row["score"] = round(row["score"] + 2e-6, 6)
    output = tmp_path / "table"
    output.write_text(json.dumps(row) + "\n")
    run(folder, output, format, "--resume")
    assert output.read_text().splitlines() == [json.dumps(row), *rest]
    assert "differ in the last digits" in caplog.text


def test_what_is_no_table_is_never_changed(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "notes"
    for content in (
        b"Dear diary,\n",
        b"Dear diary",
        b"path,file\na,b\n",
        b"path,score,llr\n1\n2\n",
        b"[1]\n",
        b"\xff\n",
    ):
        for format in ("csv", "jsonl"):
            output.write_bytes(content)
            with pytest.raises(InputError, match="is no row of a"):
                run(folder, output, format, "--resume")
            assert output.read_bytes() == content


def test_a_damaged_row_in_the_middle_is_an_error(folder: Path, whole: tuple[str, bytes], tmp_path: Path) -> None:
    format, content = whole
    rows = content.splitlines(keepends=True)
    rows[3] = b"x" * 9 + b"\n"
    output = tmp_path / "table"
    output.write_bytes(b"".join(rows))
    with pytest.raises(InputError, match="row 4 is no row of a"):
        run(folder, output, format, "--resume")
    output.write_bytes(b"".join(rows[:4]))
    run(folder, output, format, "--resume")
    assert output.read_bytes() == content


def test_a_table_that_is_there_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "table.csv"
    output.write_text("mine\n")
    with pytest.raises(InputError, match="it is there already; --resume continues it"):
        run(folder, output, "csv")
    for words in (["--resume", "--format", "csv"], ["--resume", "--format", "table", "--output", "x"]):
        with pytest.raises(InputError, match="--resume continues a table"):
            predict.main(["--config", "AASIST", *words, "talk.mp3"])


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_two_runs_never_write_one_table(tmp_path: Path) -> None:
    first = Table(str(tmp_path / "t"), "csv", resume=True)
    with pytest.raises(InputError, match="another process is writing it"):
        Table(str(tmp_path / "t"), "csv", resume=True)
    first.close()


def test_documents_appear_when_they_are_complete(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "x.json", "json")
    assert len(json.loads((tmp_path / "x.json").read_text())["files"]) == CLIPS - 2
    run(folder, tmp_path / "x.txt", "table")
    assert len((tmp_path / "x.txt").read_text().splitlines()) == CLIPS - 2 + 1
    # They replace nothing, and no clip of the folder that is scored.
    clip = folder / "audio" / '00 "a",b.wav'
    for there, format in ((tmp_path / "x.txt", "table"), (tmp_path / "x.json", "json"), (clip, "table")):
        before = there.read_bytes()
        with pytest.raises(InputError, match="it is there already; choose another name"):
            run(folder, there, format)
        assert there.read_bytes() == before


@pytest.mark.slow
def test_after_sigkill_the_same_command_ends_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """The real command, with groups of full size and a list on stdin."""
    links = tmp_path / "links"
    links.mkdir()
    names = sorted((folder / "audio").iterdir())
    paths = [links / f"{number:04d}.wav" for number in range(1500)]
    for number, path in enumerate(paths):
        os.link(names[number % len(names)], path)
    listed = "".join(f"{path}\n" for path in paths)

    def command(output: Path) -> "subprocess.Popen[str]":
        words = ["--config", folder / "tiny.conf", "--weights", folder / "weights.pth", "--device", "cpu", "-q",
                 "--format", "csv", "--output", output, "--resume", "-"]  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "s2pecnet", "predict", *map(str, words)], cwd=ROOT, text=True,
                                   stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(listed)
        process.stdin.close()
        return process

    assert command(tmp_path / "whole.csv").wait() == 1
    killed = command(tmp_path / "killed.csv")
    limit = time.monotonic() + 60
    while not (tmp_path / "killed.csv").exists() or (tmp_path / "killed.csv").stat().st_size < 30_000:
        assert killed.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    part, whole = (tmp_path / "killed.csv").stat().st_size, (tmp_path / "whole.csv").read_bytes()
    assert 30_000 <= part < len(whole)
    assert command(tmp_path / "killed.csv").wait() == 1
    assert (tmp_path / "killed.csv").read_bytes() == whole


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_does_not_grow_with_the_list(tmp_path: Path) -> None:
    """Neither scoring a list, nor finding in a table where it goes on."""
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, np.random.default_rng(0).normal(0, 0.1, 800), 16000)

    class Mean:
        chunk = None

        def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
            return waveforms.mean(dim=1)

    def paths(count: int) -> Iterator[str]:
        return (f"{tmp_path}/{'./' * (number % 50)}clip.wav" for number in range(count))

    scorer = FileScorer(Mean(), Inputs(1600), None, 8)  # type: ignore[arg-type]
    held = []
    tracemalloc.start()
    for count, _ in enumerate(scorer(in_groups(paths(6000)))):
        if count in (2000, 5999):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    assert held[1] < held[0] + 100_000

    table = tmp_path / "table.csv"
    with open(table, "w") as stream:
        stream.write(",".join(resume.COLUMNS) + "\n")
        stream.writelines(f"/data/clip_{number:07d}.wav,0.5,,spoof,1.0,0.5,1.0,1\n" for number in range(100_000))
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    opened, tally = Table(str(table), "csv", resume=True), Counter[str | None]()
    opened.write(",".join(resume.COLUMNS))
    left = opened.remaining((f"/data/clip_{number:07d}.wav" for number in range(100_010)), tally)
    assert len([one for one in left if one is not None]) == 100_010 - sum(tally.values()) <= 4 + 10
    assert tally == {"spoof": 99_996}
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    opened.stream.close()
    assert peak < 2_000_000


def test_nothing_of_the_log_is_lost(folder: Path, whole: tuple[str, bytes], tmp_path: Path,
                                    caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "s2pecnet")
    output = tmp_path / "table"
    output.write_bytes(whole[1])
    run(folder, output, whole[0], "--resume")
    assert "11 files are done; going on behind the 8 before" in caplog.text
