"""The command that scores audio: every kind of input, every format, and what bad input gets to hear."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch

from s2pecnet import load_scorer
from s2pecnet.audio.crops import pad
from s2pecnet.audio.decoding import read_audio
from s2pecnet.cli import predict
from s2pecnet.errors import InputError
from s2pecnet.files import sha256_of
from s2pecnet.metrics.calibration import Calibration
from s2pecnet.scoring.verdicts import make_rule
from s2pecnet.systems import build
from s2pecnet.systems.registry import utterance_feature
from s2pecnet.systems.weights import save_weights
from tests.helpers import ROOT
from tests.helpers.audio_zoo import encoded
from tests.helpers.samples import TINY

CALIBRATION = Calibration(
    slope=2.0, offset=0.5, eer_threshold=0.125, min_dcf_threshold=-0.25, p_spoof=0.05, c_miss=1.0, c_fa=10.0,
    n_bonafide=60, n_spoof=180, separable=False, fitted_on="dev",
)  # fmt: skip


class System(NamedTuple):
    """A tiny system on disk, and a folder of audio: 0.1 s, 0.3 s (a window) and 1 s, and a text that is named .wav."""

    config: Path
    plain: Path
    calibrated: Path
    audio: Path

    def arguments(self, *more: object, weights: Path | None = None) -> list[str]:
        given = ["--config", self.config, "--weights", weights or self.plain, "--device", "cpu", *more]
        return list(map(str, given))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    folder = tmp_path_factory.mktemp("system")
    found = System(folder / "tiny.conf", folder / "plain.pth", folder / "calibrated.pth", folder / "audio")
    found.config.write_text(json.dumps(TINY))
    torch.manual_seed(0)
    model = build.get_model(TINY["model_config"], "cpu")
    save_weights(model, found.plain)
    save_weights(model, found.calibrated, {"seed": 1, "calibration": CALIBRATION.as_dict()})
    found.audio.mkdir()
    rng = np.random.default_rng(0)
    for name, rate, length in [("a", 16000, 1600), ("b", 16000, 4800), ("d", 48000, 48000)]:
        samples = rng.normal(0, 0.1, (length, 2 if name == "d" else 1))
        soundfile.write(found.audio / f"{name}.wav", samples, rate, subtype="FLOAT")
    (found.audio / "c.wav").write_text("not a sound")
    return found


Output = pytest.CaptureFixture[str]


def records(system: System, capsys: Output, *arguments: object, weights: Path | None = None) -> list[dict[str, Any]]:
    predict.main(system.arguments("--format", "jsonl", *arguments, weights=weights))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def command(arguments: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "s2pecnet", "predict", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def test_names_that_stdout_cannot_write_are_escaped(system: System, tmp_path: Path) -> None:
    for name in ("音声.wav", "z.wav"):
        shutil.copy(system.audio / "a.wav", tmp_path / name)
    done = command(system.arguments("--format", "csv", tmp_path), env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0, done.stderr
    names = [Path(line.split(",")[0]).name for line in done.stdout.splitlines()[1:]]
    assert sorted(names) == sorted(["\\u97f3\\u58f0.wav", "z.wav"])


def test_scores_are_those_of_the_scorer(system: System, capsys: Output) -> None:
    scorer = load_scorer(system.config, system.plain, "cpu")
    feature = utterance_feature(TINY["model_config"])
    assert feature is not None

    def score(samples: np.ndarray) -> float:
        return float(scorer(pad(samples, 4800)[None], feature(torch.from_numpy(samples.copy()))[None])[0])

    capsys.readouterr()
    a, b, d = records(system, capsys, system.audio)
    assert [Path(row["path"]).name for row in (a, b, d)] == ["a.wav", "b.wav", "d.wav"]
    assert a["score"] == pytest.approx(score(read_audio(system.audio / "a.wav")), abs=2e-6)
    assert b["score"] == pytest.approx(score(read_audio(system.audio / "b.wav")), abs=2e-6)
    whole = read_audio(system.audio / "d.wav")
    starts = [0, 2400, 4800, 7200, 9600, 11200]
    expected = [score(whole[start : start + 4800]) for start in starts]
    assert [window["start"] for window in d["windows"]] == [start / 16000 for start in starts]
    assert d["windows"][-1]["end"] == 1.0
    assert [window["score"] for window in d["windows"]] == pytest.approx(expected, abs=1e-4)
    assert d["score"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert d["min"] == min(window["score"] for window in d["windows"])


def test_without_a_calibration_there_are_no_ratios_and_a_note(
    system: System, capsys: Output, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert predict.main(system.arguments(system.audio / "a.wav")) == 0
    output = capsys.readouterr()
    assert caplog.text.count("no verdicts: no calibration, and no --threshold; fit a calibration on dev") == 1
    columns, row = output.out.splitlines()
    assert columns.split() == ["file", "verdict", "llr", "score"]
    path, verdict, llr, score = row.split()
    assert (path, verdict, llr) == (str(system.audio / "a.wav"), "-", "-")
    assert len(score.split(".")[1]) == 6
    (record,) = records(system, capsys, system.audio / "a.wav")
    assert all(record[name] is None for name in ("verdict", "llr", "threshold", "below_threshold"))


@pytest.mark.slow
def test_one_file_has_three_lines(system: System) -> None:
    for weights in (system.plain, system.calibrated):
        done = command(system.arguments(system.audio / "a.wav", weights=weights))
        assert len((done.stdout + done.stderr).splitlines()) == 3, done.stderr


def test_the_stored_calibration_is_used(system: System, capsys: Output, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = records(system, capsys, system.audio, weights=system.calibrated)
    for row in rows:
        assert row["llr"] == pytest.approx(2 * row["score"] + 0.5, abs=3e-6)
        assert row["threshold"] == -0.25
        assert row["verdict"] == ("bonafide" if row["llr"] > 0 else "spoof")
        below = [window["score"] <= -0.25 for window in row["windows"]]
        assert row["below_threshold"] == pytest.approx(np.mean(below), abs=1e-6)
    assert predict.main(system.arguments(system.audio / "a.wav", weights=system.calibrated)) == 0
    assert "above -0.250000, where the llr is 0, by dev: 60 bona fide, 180 spoofed" in caplog.text


def test_a_calibration_file_comes_before_the_stored_one(
    system: System, capsys: Output, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "c.json"
    path.write_text(json.dumps(CALIBRATION.as_dict() | {"slope": 0, "offset": 0}))
    (row,) = records(system, capsys, "--calibration", path, system.audio / "a.wav", weights=system.calibrated)
    assert (row["llr"], row["verdict"]) == (0, None)
    predict.main(system.arguments("--calibration", path, system.audio / "a.wav"))
    assert "no verdicts: the calibration says nothing, as dev: 60 bona fide, 180 spoofed rank no" in caplog.text


def test_a_calibration_of_other_weights_has_a_warning(
    system: System, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.json"
    for digest, warnings in ((sha256_of(system.plain), 0), ("0" * 64, 1)):
        path.write_text(json.dumps(CALIBRATION.as_dict() | {"weights_sha256": digest}))
        predict.main(system.arguments("--calibration", path, system.audio / "a.wav"))
        assert caplog.text.count("fitted on scores of other weights") == warnings


def test_thresholds() -> None:
    assert make_rule(None, None).threshold is None
    assert make_rule(None, None).verdict(1e9) is None
    assert make_rule(None, CALIBRATION).threshold == -0.25
    assert make_rule("eer", CALIBRATION).threshold == 0.125
    assert make_rule("eer", CALIBRATION).reason == "the EER threshold of dev: 60 bona fide, 180 spoofed"
    rule = make_rule("min-dcf", CALIBRATION)
    assert (rule.threshold, rule.verdict(-0.25), rule.verdict(-0.2499)) == (-0.25, "spoof", "bonafide")
    assert "Pspoof 0.05, Cmiss 1, Cfa 10" in rule.reason
    given = make_rule("-1.5", CALIBRATION)
    assert (given.threshold, given.reason, given.llr(1.0)) == (-1.5, "given by --threshold", 2.5)
    assert make_rule("3", None).llr(1.0) is None
    for wrong, calibration in [("eer", None), ("min-dcf", None), ("nan", CALIBRATION), ("EER", None)]:
        with pytest.raises(InputError, match=f"--threshold {wrong}: "):
            make_rule(wrong, calibration)


def test_a_bad_file_is_a_line_and_the_others_are_scored(system: System, capsys: Output) -> None:
    missing = system.audio / "mis\nsing.wav"
    assert predict.main(system.arguments("--format", "csv", system.audio, missing, system.audio / "a.wav")) == 1
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if line.startswith("error")]
    assert len(errors) == 2
    assert errors[0].startswith(f"error: {system.audio / 'c.wav'}: cannot be decoded")
    assert errors[1] == f"error: {system.audio}/mis\\nsing.wav: no such audio file"
    assert len(output.out.splitlines()) == 5
    assert output.err.splitlines()[-1].endswith("that could not be used: 2")


def test_formats_say_the_same(system: System, capsys: Output) -> None:
    arguments = (system.audio, "--threshold", "0.01")
    rows = records(system, capsys, *arguments, weights=system.calibrated)
    predict.main(system.arguments("--format", "json", *arguments, weights=system.calibrated))
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == rows
    assert document["polarity"] == "higher = bona fide"
    assert (document["threshold"], document["threshold_is"]) == (0.01, "given by --threshold")
    assert Calibration.from_dict(document["calibration"]) == CALIBRATION
    assert (document["window_seconds"], document["hop_seconds"]) == (0.3, 0.15)
    predict.main(system.arguments("--format", "csv", *arguments, weights=system.calibrated))
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for row, record in zip(table, rows, strict=True):
        assert list(row)[:4] == ["path", "score", "llr", "verdict"]
        for name in ("score", "llr", "threshold", "min", "below_threshold"):
            assert row[name] == f"{record[name]:.6f}"
        assert (row["path"], row["verdict"]) == (record["path"], record["verdict"])
        assert int(row["windows"]) == len(record["windows"])
    predict.main(system.arguments(*arguments, weights=system.calibrated))
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split() for line in lines] == [
        [row["path"], row["verdict"], row["llr"], row["score"]] for row in table
    ]


def test_only_bad_files_still_make_complete_documents(system: System, capsys: Output) -> None:
    for name, check in [("json", lambda text: json.loads(text)["files"] == []), ("jsonl", lambda text: text == "")]:
        assert predict.main(system.arguments("--format", name, system.audio / "c.wav")) == 1
        assert check(capsys.readouterr().out)


@pytest.mark.slow
def test_names_of_any_kind(system: System, tmp_path: Path) -> None:
    strange = [f'{tmp_path}/caf\udce9, "x".wav', f"{tmp_path}/two\nlines.wav", f"{tmp_path}/声.wav"]
    for name in strange:
        Path(name).write_bytes((system.audio / "a.wav").read_bytes())
    arguments = ["-m", "s2pecnet", "predict", *system.arguments("--format", "csv", *strange)]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, timeout=300)
    assert done.returncode == 0
    rows = list(csv.reader(io.StringIO(os.fsdecode(done.stdout))))
    assert [row[0] for row in rows[1:]] == strange


def test_hop(system: System, capsys: Output) -> None:
    (row,) = records(system, capsys, "--hop", 0.3, system.audio / "d.wav")
    assert [window["start"] for window in row["windows"]] == [0, 0.3, 0.6, 0.7]
    for wrong in ("0", "-1", "0.31", "nan"):
        with pytest.raises(InputError, match=r"--hop .*: expected seconds above 0, at most a window \(0.3 s\)"):
            predict.main(system.arguments(f"--hop={wrong}", system.audio))


def test_plot(system: System, tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "plot.png"
    assert predict.main(system.arguments("--plot", path, system.audio / "d.wav")) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "d.wav" in capsys.readouterr().out
    for wrong in ([system.audio], [system.audio / "a.wav", system.audio / "b.wav"], ["-"]):
        with pytest.raises(InputError, match="--plot draws one file"):
            predict.main(system.arguments("--plot", path, *wrong))


def test_what_is_wrong_from_the_start_is_reported_at_once(system: System, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases: list[tuple[list[object], str]] = [
        ([tmp_path / "empty"], "no audio file in this folder"),
        ([f"{tmp_path}/*.wav"], "no file matches"),
        ([tmp_path / "absent.wav"], "absent.wav: no such file"),
        (["--weights", tmp_path / "absent.pth", system.audio], "absent.pth: no such checkpoint"),
        (["--calibration", tmp_path / "absent.json", system.audio], "absent.json: no such calibration"),
        (["--device", "abacus", system.audio], "--device abacus"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            predict.main(system.arguments(*arguments))
    with pytest.raises(InputError, match="no weights; give --weights"):
        predict.main(["--config", str(system.config), str(system.audio)])


def test_a_damaged_stored_calibration_is_reported(system: System, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    save_weights(build.get_model(TINY["model_config"], "cpu"), path, {"calibration": {"slope": 1.0}})
    with pytest.raises(InputError, match=r"w.pth: calibration: key 'offset' is missing"):
        predict.main(system.arguments(system.audio, weights=path))


@pytest.mark.slow
def test_a_list_on_stdin_in_the_real_command(system: System) -> None:
    names = f"{system.audio}/b.wav\n\n{system.audio}/c.wav\n{system.audio}/a.wav"
    done = command(system.arguments("--format", "csv", "-"), input=names)
    assert done.returncode == 1
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["path"]).name for row in rows] == ["b.wav", "a.wav"]
    assert "Traceback" not in done.stderr
    nothing = command(system.arguments("-"), input="")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr == "error: no audio file found in -\n"


@pytest.mark.slow
def test_rows_come_while_the_list_is_still_being_written(system: System) -> None:
    arguments = [sys.executable, "-m", "s2pecnet", "predict", *system.arguments("--format", "jsonl", "-")]
    with subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("a", "d", "b"):
            process.stdin.write(f"{system.audio}/{name}.wav\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["path"] == f"{system.audio}/{name}.wav"
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(timeout=60) == 0


def test_a_reader_that_leaves_is_no_error(system: System) -> None:
    script = f'{sys.executable} -m s2pecnet predict "$@" | head -1'
    paths = [system.audio / "a.wav"] * 40
    done = subprocess.run(
        ["bash", "-c", script, "bash", *system.arguments(*paths)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.startswith("file ")
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


def test_a_folder_is_counted_completely(
    system: System, tmp_path: Path, capsys: Output, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    samples = soundfile.read(system.audio / "a.wav")[0]
    (tmp_path / "memo.m4a").write_bytes(encoded("ipod", "aac", samples))
    (tmp_path / "SW02001").write_bytes((system.audio / "a.wav").read_bytes())
    (tmp_path / "page.flac").write_text("<!DOCTYPE html><html>404</html>")
    (tmp_path / "notes.txt").write_text("no audio")
    (tmp_path / "linked").symlink_to(system.audio)
    (tmp_path / ".hidden.wav").touch()
    assert predict.main(system.arguments("--format", "jsonl", tmp_path)) == 1
    output = capsys.readouterr()
    assert [Path(json.loads(line)["path"]).name for line in output.out.splitlines()] == ["SW02001", "memo.m4a"]
    assert f"error: {tmp_path}/page.flac: cannot be decoded, it is an HTML page" in output.err
    counts = "files scored: 2; that could not be used: 1; read by the second decoder (PyAV): 1"
    assert output.err.splitlines()[-1] == counts
    assert "skipped: 1 that are no audio (.txt 1), 1 hidden, 1 linked folders" in caplog.text


def test_a_path_is_no_formula_of_a_spreadsheet(
    system: System, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("=cmd|x!A1.wav", "@sum.wav", "+1.wav", "plain.wav"):
        (tmp_path / name).write_bytes((system.audio / "b.wav").read_bytes())
    predict.main(system.arguments("--format", "csv", *sorted(os.listdir())))
    names = [row["path"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert names == ["./+1.wav", "./=cmd|x!A1.wav", "./@sum.wav", "plain.wav"]
    assert all(os.path.isfile(name) for name in names)
