"""The Arena's adapter under a stand-in of its harness, and the Arena's files: scores, submissions, its EER."""

import contextlib
import gc
import hashlib
import importlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.arena.schema import missing_fields, read_submission, slug_of, write_submission, wrong_fields
from s2pecnet.arena.submission import Keys, compute_results, keys_of_scores
from s2pecnet.audio.decoding import BadAudio
from s2pecnet.cli import arena, train
from s2pecnet.cli.command import run_command
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.errors import InputError
from s2pecnet.score_files.cm_asv import read_cm_scores, read_plain_scores, write_plain_scores
from s2pecnet.systems import build
from s2pecnet.systems.weights import save_weights
from tests.helpers import ROOT
from tests.helpers.samples import TINY

# What the harness documents of its base class, and no more.
STAND_IN = """
import abc
from typing import ClassVar

class AntiSpoofingModel(abc.ABC):
    name: ClassVar[str] = "unnamed"
    expected_sample_rate: ClassVar[int] = 16000
    batch_size: ClassVar[int] = 1

    @abc.abstractmethod
    def load(self) -> None: ...

    @abc.abstractmethod
    def score_batch(self, audios, srs): ...

    def unload(self) -> None: ...
"""


def forget_harness() -> None:
    for name in ("speech_spoof_bench", "speech_spoof_bench.model", "s2pecnet.arena.adapter"):
        sys.modules.pop(name, None)


def adapter_class() -> Any:
    """`Adapter`, imported anew: its base class is what is installed then."""
    sys.modules.pop("s2pecnet.arena.adapter", None)
    return importlib.import_module("s2pecnet.arena.adapter").Adapter


@contextlib.contextmanager
def stand_in(folder: Path) -> Iterator[Path]:
    """A package speech_spoof_bench that can be imported; its folder."""
    package = folder / "site" / "speech_spoof_bench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text(STAND_IN)
    forget_harness()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package.parent)
        yield package
    forget_harness()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Path]:
    with stand_in(tmp_path) as package:
        yield package


@pytest.fixture(scope="module")
def system(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """S2PEC_* of a small S2pecNet with random weights."""
    folder = tmp_path_factory.mktemp("system")
    (folder / "tiny.conf").write_text(json.dumps(TINY | {"database_path": str(corpus)}))
    torch.manual_seed(0)
    save_weights(build.get_model(TINY["model_config"], "cpu"), folder / "w.pth")
    return {
        "S2PEC_CONFIG": str(folder / "tiny.conf"),
        "S2PEC_WEIGHTS": str(folder / "w.pth"),
        "S2PEC_DEVICE": "cpu",
    }


@pytest.fixture
def environment(system: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in system.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("S2PEC_BATCH", raising=False)
    return system


@pytest.fixture
def fresh(harness: Path, environment: dict[str, str]) -> Any:
    """An adapter of its own for a test that changes it."""
    model = adapter_class()()
    model.load()
    return model


@pytest.fixture(scope="module")
def adapter(system: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A loaded adapter that no test changes."""
    with stand_in(tmp_path_factory.mktemp("stand_in")), pytest.MonkeyPatch.context() as patch:
        for name, value in system.items():
            patch.setenv(name, value)
        patch.setenv("S2PEC_BATCH", "3")
        model = adapter_class()()
        model.load()
    return model


def clips(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in lengths]


def one_line(call: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that fails on its input says, which has to be one line and status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run_command(call)
    assert stopped.value.code == 2
    said = [line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith("note: ")]
    assert said[0].startswith("error: ")
    return "\n".join(said)


# ---- the adapter --------------------------------------------------------------------------------


def run_as_the_harness_does(model: Any, clips: dict[str, tuple[np.ndarray, int]]) -> tuple[list[str], int]:
    """Lines of scores.txt and how many clips were skipped: batches, then one by one where a batch fails."""

    def score(names: list[str]) -> list[float | None]:
        try:
            return list(model.score_batch([clips[name][0] for name in names], [clips[name][1] for name in names]))
        except Exception:
            return [None] if len(names) == 1 else [found for name in names for found in score([name])]

    names, size = list(clips), model.batch_size
    scores = [found for start in range(0, len(names), size) for found in score(names[start : start + size])]
    lines = [f"{name} {found:.6f}" for name, found in zip(names, scores, strict=True) if found is not None]
    return lines, len(names) - len(lines)


@pytest.mark.parametrize("eval_crop", ["first", "windows"])
def test_the_harness_gets_the_scores_of_main_eval(
    eval_crop: str, fresh: Any, system: dict[str, str], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "own.conf"
    config.write_text(json.dumps(TINY | {"database_path": str(corpus), "eval_crop": eval_crop}))
    monkeypatch.setenv("S2PEC_CONFIG", str(config))
    adapter = type(fresh)()
    adapter.load()
    train.main(["--eval", "--config", str(config), "--eval_model_weights", system["S2PEC_WEIGHTS"],
               "--output_dir", str(tmp_path / "out"), "--device", "cpu"])  # fmt: skip
    ours = read_cm_scores(next((tmp_path / "out").glob("LA_*/eval_scores*.txt")))
    split = find_split(corpus, "LA", "eval")
    audio = {
        trial.utterance: soundfile.read(split.audio / "flac" / f"{trial.utterance}.flac", dtype="float32")
        for trial in read_protocol(split.protocol)
    }
    lines, skipped = run_as_the_harness_does(adapter, audio)
    assert skipped == 0
    assert [line.split()[0] for line in lines] == ours.utterances.tolist()
    np.testing.assert_allclose([float(line.split()[1]) for line in lines], ours.scores, atol=1e-4)
    assert np.ptp(ours.scores) > 1e-3


def test_scores_do_not_depend_on_the_batch(adapter: Any) -> None:
    audios = clips(160, 4799, 4800, 4801, 20000)
    rates = [16000] * len(audios)
    together = adapter.score_batch(audios, rates)
    assert len(together) == 5
    assert all(type(score) is float for score in together)
    assert len({round(score, 4) for score in together}) > 1
    singly = [score for audio in audios for score in adapter.score_batch([audio], [16000])]
    np.testing.assert_allclose(together, singly, atol=1e-5)
    np.testing.assert_allclose(adapter.score_batch(audios[::-1], rates), together[::-1], atol=1e-5)
    assert adapter.score_batch([], []) == []


def test_other_rates_are_resampled_as_files_are(adapter: Any, tmp_path: Path) -> None:
    from s2pecnet.audio.decoding import read_audio

    low, high = clips(6000, 14000)
    soundfile.write(tmp_path / "low.wav", low, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "high.wav", high, 44100, subtype="FLOAT")
    mixed = adapter.score_batch([low, high, low], [8000, 44100, 16000])
    as_files = [read_audio(tmp_path / "low.wav"), read_audio(tmp_path / "high.wav"), low]
    np.testing.assert_allclose(mixed, adapter.score_batch(as_files, [16000] * 3), atol=1e-5)
    assert mixed[0] != pytest.approx(mixed[2], abs=1e-6)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (np.zeros(9000, np.float32), "is silent"),
        (np.zeros(0, np.float32), "holds no samples"),
        (np.ones(159, np.float32), "159 samples at 16000 Hz, less than 10 ms"),
        (np.full(9000, np.nan, np.float32), "NaN or infinite"),
        (np.ones(9000, np.int16), "int16"),
        (np.ones((2, 9000), np.float32), r"\(2, 9000\)"),
    ],
)
def test_an_unusable_clip_is_named_and_skipped_alone(adapter: Any, bad: np.ndarray, why: str) -> None:
    good = clips(9000)[0]
    with pytest.raises(BadAudio, match=f"clip 2 of the batch: .*{why}"):
        adapter.score_batch([good, bad], [16000, 16000])
    lines, skipped = run_as_the_harness_does(adapter, {"a": (good, 16000), "b": (bad, 16000), "c": (good, 16000)})
    assert skipped == 1
    assert [line.split()[0] for line in lines] == ["a", "c"]


def test_a_clip_without_a_usable_rate_is_refused(adapter: Any) -> None:
    with pytest.raises(BadAudio, match="at 0 Hz"):
        adapter.score_batch(clips(9000), [0])


def test_unload_frees_the_system_and_load_brings_it_back(fresh: Any) -> None:
    audio = clips(9000)
    before = fresh.score_batch(audio, [16000])
    model = weakref.ref(fresh._scorer.model)
    fresh.unload()
    gc.collect()
    assert model() is None
    fresh.unload()
    with pytest.raises(InputError, match="call load"):
        fresh.score_batch(audio, [16000])
    fresh.load()
    assert fresh.score_batch(audio, [16000]) == pytest.approx(before, abs=1e-6)


def test_the_interface_is_the_harness_own(
    harness: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from speech_spoof_bench.model import AntiSpoofingModel  # type: ignore[import-not-found]

    adapter = adapter_class()
    assert issubclass(adapter, AntiSpoofingModel)
    assert (adapter.expected_sample_rate, adapter.batch_size) == (16000, 16)
    assert isinstance(adapter.name, str)
    monkeypatch.setenv("S2PEC_BATCH", "3")
    model = adapter()
    assert (model.name, model.batch_size) == ("tiny", 3)


def test_scores_that_are_not_finite_are_refused(fresh: Any) -> None:
    with torch.no_grad():
        for parameter in fresh._scorer.model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(InputError, match="clip 1 of the batch: its score is not finite"):
        fresh.score_batch(clips(9000), [16000])


def test_the_class_may_stand_in_the_package_itself(harness: Path, environment: dict[str, str]) -> None:
    (harness / "model.py").rename(harness / "__init__.py")
    model = adapter_class()()
    model.load()
    assert len(model.score_batch(clips(5000), [16000])) == 1


def test_without_the_harness_the_adapter_works_by_itself(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_harness()
    monkeypatch.setitem(sys.modules, "speech_spoof_bench", None)
    adapter = adapter_class()
    assert adapter.expected_sample_rate == 16000
    model = adapter()
    model.load()
    assert len(model.score_batch(clips(5000), [16000])) == 1


def test_a_harness_that_lacks_a_package_is_not_taken_for_missing(harness: Path) -> None:
    (harness / "model.py").write_text("import no_such_package_at_all")
    with pytest.raises(InputError, match="No module named 'no_such_package_at_all'; install what"):
        adapter_class()()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"S2PEC_CONFIG": None}, "^S2PEC_CONFIG not set"),
        ({"S2PEC_CONFIG": "", "S2PEC_WEIGHTS": None}, "^S2PEC_CONFIG and S2PEC_WEIGHTS not set"),
        ({"S2PEC_BATCH": "0"}, "S2PEC_BATCH: got '0', expected a whole number >= 1"),
        ({"S2PEC_BATCH": "many"}, "S2PEC_BATCH: got 'many'"),
        ({"S2PEC_WEIGHTS": "nowhere.pth"}, "nowhere.pth: no such checkpoint"),
        ({"S2PEC_CONFIG": "nowhere.conf"}, "nowhere.conf: no such config"),
        ({"S2PEC_DEVICE": "abacus"}, "abacus"),
    ],
)
def test_what_is_wrong_in_the_environment_is_one_line(
    harness: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | None],
    said: str,
) -> None:
    for name, value in changes.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said) as refused:
        adapter_class()().load()
    assert "\n" not in str(refused.value)


# ---- score files and submissions ----------------------------------------------------------------

OURS = """\
LA_1 - bonafide 2.5
LA_2 A07 spoof -1.2500004
LA_3 A08 spoof unscored
LA_4 - bonafide 3e0
LA_5 A08 spoof 2.75
"""


def submission_options(folder: Path, system: dict[str, str]) -> dict[str, str]:
    """The command line of a submission that is in order, and the files that it names."""
    (folder / "ours.txt").write_text(OURS)
    arena.main(["scores", "--cm", str(folder / "ours.txt"), "--output", str(folder / "scores.txt")])
    bibtex = '@misc{x,\n  title = {Übung: 50 % "quoted"},\n}\n'
    (folder / "paper.bib").write_text(bibtex, encoding="utf-8")
    return {
        "--scores": str(folder / "scores.txt"),
        "--cm": str(folder / "ours.txt"),
        "--config": system["S2PEC_CONFIG"],
        "--weights": system["S2PEC_WEIGHTS"],
        "--output": str(folder / "submission.yaml"),
        "--name": "S2pecNet: tiny #1",
        "--description": 'Größe: "2", no: yes\n- not a list',
        "--code": "https://example.org/code",
        "--checkpoint": "https://example.org/weights",
        "--arxiv": "2308.09302",
        "--bibtex": str(folder / "paper.bib"),
        "--dataset": "SpeechAntiSpoofingBenchmarks/ASVspoof2019_LA",
        "--revision": "1234567",
        "--scores-url": "https://huggingface.co/me/model/resolve/0123456/.eval_results/scores.txt",
        "--bench-version": "speech-spoof-bench==0.3.0",
        "--submitter": "me",
        "--contact": "me@example.org",
    }


def submit(options: dict[str, str]) -> None:
    arena.main(["submission", *itertools.chain.from_iterable(options.items())])


def check(folder: Path, *keys: str) -> None:
    arena.main(["check", str(folder / "submission.yaml"), "--scores", str(folder / "scores.txt"), *keys])


@pytest.fixture
def options(system: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return submission_options(tmp_path, system)


@pytest.fixture(scope="module")
def made_once(system: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submission")
    submit(submission_options(folder, system))
    return folder


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Path:
    """A folder with ours.txt, scores.txt and submission.yaml, to be changed at will."""
    return Path(shutil.copytree(made_once, tmp_path / "made"))


def test_score_files_are_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "s2pecnet")
    (tmp_path / "ours.txt").write_text(OURS)
    arena.main(["scores", "--cm", str(tmp_path / "ours.txt"), "--output", str(tmp_path / "scores.txt")])
    text = (tmp_path / "scores.txt").read_text()
    assert text == "LA_1 2.500000\nLA_2 -1.250000\nLA_4 3.000000\nLA_5 2.750000\n"
    said = capsys.readouterr()
    assert said.out.endswith("4 scores\n")
    assert "1 of 5 trials are unscored and left out" in caplog.text
    assert "gives up where more than 5 % are skipped" in caplog.text
    assert "six decimals" not in caplog.text


def test_scores_that_six_decimals_make_equal_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ours.txt").write_text("a - bonafide 0.99999991\nb A07 spoof 0.99999990\nc A07 spoof 0.5\n")
    arena.main(["scores", "--cm", str(tmp_path / "ours.txt"), "--output", str(tmp_path / "scores.txt")])
    assert "3 different scores are 2 in six decimals, the Arena's format, and metrics change" in caplog.text


def test_keys_of_a_submission_are_text(made: Path) -> None:
    path = made / "submission.yaml"
    path.write_text(path.read_text().replace("scores:", "scores:\n  10: 3.5", 1))
    with pytest.raises(InputError, match=r"submission.yaml: the key 10 is no text; put it between quotes"):
        read_submission(path)


def test_a_submission_says_what_it_should(made: Path) -> None:
    read = read_submission(made / "submission.yaml")
    assert list(read) == [
        "schema_version", "system", "dataset", "scores", "artifact", "reproduction", "submitter", "submitted_at",
    ]  # fmt: skip
    # Bona fide at 2.5 and 3, spoofs at -1.25 and 2.75: at 2.75 both rates are one half.
    assert read["scores"] == {"eer_percent": 50.0, "n_trials": 5, "n_skipped": 1}
    sha = hashlib.sha256((made / "scores.txt").read_bytes()).hexdigest()
    assert read["artifact"]["scores_sha256"] == sha
    assert read["system"]["slug"] == "s2pecnet-tiny-1"
    assert read["system"]["description"] == 'Größe: "2", no: yes\n- not a list'
    assert read["system"]["paper"]["url"] == "https://arxiv.org/abs/2308.09302"
    assert read["system"]["paper"]["bibtex"].startswith("@misc{x,\n  title = {Übung")
    parameters = build.get_model(TINY["model_config"], "cpu").parameters()
    assert read["system"]["params_millions"] == sum(parameter.numel() for parameter in parameters) / 1e6
    assert read["dataset"] == {
        "id": "SpeechAntiSpoofingBenchmarks/ASVspoof2019_LA",
        "revision": "1234567",
        "split": "test",
    }
    assert read["reproduction"] == {}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", read["submitted_at"])


def test_a_valid_submission_passes(
    made: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "s2pecnet")
    check(made, "--cm", str(made / "ours.txt"))
    assert "in order, EER 50.0000 %, 5 trials, 1 skipped" in capsys.readouterr().out
    check(made)
    assert "the metrics were not computed again" in caplog.text


def test_keys_may_come_from_a_protocol(options: dict[str, str], tmp_path: Path) -> None:
    rows = [line.split() for line in OURS.splitlines()]
    (tmp_path / "protocol.txt").write_text("".join(f"x {row[0]} - {row[1]} {row[2]}\n" for row in rows))
    del options["--cm"]
    submit(options | {"--protocol": str(tmp_path / "protocol.txt")})
    assert read_submission(options["--output"])["scores"] == {"eer_percent": 50.0, "n_trials": 5, "n_skipped": 1}


def test_keys_may_come_from_a_table(options: dict[str, str], tmp_path: Path) -> None:
    rows = [line.split() for line in OURS.splitlines()]
    text = "".join(f"clips/{row[0]}.wav,{'real' if row[2] == 'bonafide' else 'fake'}\n" for row in rows)
    (tmp_path / "keys.csv").write_text("path,label\n" + text)
    del options["--cm"]
    submit(options | {"--protocol": str(tmp_path / "keys.csv")})
    assert read_submission(options["--output"])["scores"] == {"eer_percent": 50.0, "n_trials": 5, "n_skipped": 1}


def test_a_system_without_a_paper_gets_a_note(options: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "s2pecnet")
    del options["--arxiv"], options["--bibtex"]
    submit(options)
    assert "paper" not in read_submission(options["--output"])["system"]
    assert "no paper (--arxiv, --bibtex)" in caplog.text


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--description", None, "the submission: missing: system.description (--description)"),
        ("--description", " ", "system.description: got ' ', expected a text"),
        ("--name", "!!!", "system.slug: got '', expected small letters"),
        ("--code", "my laptop", "system.code: got 'my laptop', expected a URL"),
        ("--checkpoint", "ftp://example.org/x", "system.checkpoint: got 'ftp://example.org/x', expected a URL"),
        ("--scores-url", "https://huggingface.co/me/m/resolve/main/s.txt", "with a commit and not a branch"),
        ("--revision", "main", "dataset.revision: got 'main', expected a commit"),
        ("--dataset", "ASVspoof", "dataset.id: got 'ASVspoof', expected <organisation>/<dataset>"),
        ("--bibtex", None, "missing: system.paper.bibtex (--bibtex)"),
        ("--bench-version", None, "missing: artifact.bench_version (--bench-version)"),
        ("--contact", "", "--contact: its value is empty"),
        ("--weights", "nowhere.pth", "nowhere.pth: no such checkpoint"),
        ("--cm", "nowhere.txt", "nowhere.txt: No such file or directory"),
    ],
)
def test_a_bad_field_is_one_line_and_nothing_is_written(
    options: dict[str, str], capsys: pytest.CaptureFixture[str], option: str, value: str | None, said: str
) -> None:
    del options[option]
    line = one_line(lambda: submit(options if value is None else options | {option: value}), capsys)
    assert said in line
    assert "\n" not in line
    assert not Path(options["--output"]).exists()


def test_all_missing_fields_are_named_at_once(options: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--scores", "--cm", "--config", "--weights", "--output")
    line = one_line(lambda: submit({name: options[name] for name in files}), capsys)
    assert "\n" not in line
    named = set(re.findall(r"\((--[a-z-]+)\)", line))
    # --bench-version too, unless the harness is installed here.
    assert named - {"--bench-version"} == {
        "--name", "--description", "--code", "--checkpoint", "--dataset", "--revision", "--scores-url",
        "--submitter", "--contact",
    }  # fmt: skip


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        submission = read_submission(path)
        change(submission)
        write_submission(path, submission)

    return apply


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (edited(lambda s: s["artifact"].update(scores_sha256="0" * 64)), "artifact.scores_sha256: 000"),
        (edited(lambda s: s["artifact"].update(scores_sha256="12")), "artifact.scores_sha256: got '12', expected 64"),
        (edited(lambda s: s["scores"].update(eer_percent=50.00001)), "scores.eer_percent: 50.00001, but"),
        (edited(lambda s: s["scores"].update(eer_percent="low")), "scores.eer_percent: got 'low', expected a number"),
        (edited(lambda s: s["scores"].update(n_skipped=0, n_trials=4)), "scores.n_trials: 4, but"),
        (edited(lambda s: s["scores"].update(n_skipped=3)), "are not n_trials 5"),
        (edited(lambda s: s["scores"].update(srr="high")), "scores.srr: got 'high', expected a number"),
        (edited(lambda s: s["scores"].update(n_trials=True)), "scores.n_trials: got True"),
        (edited(lambda s: s["system"].update(nmae="x")), "system.nmae: there is no such field"),
        (edited(lambda s: s["system"].pop("code")), "submission.yaml: missing: system.code"),
        (edited(lambda s: s.update(system="S2pecNet")), "system: got 'S2pecNet', expected a section"),
        (edited(lambda s: s.update({"submitter.contact": "x"})), "'submitter.contact': there is no such field"),
        (edited(lambda s: s["dataset"].update(revision=1234567)), "dataset.revision: got 1234567, expected a commit"),
        (edited(lambda s: s.update(submitted_at="31.1.2026")), "submitted_at: got '31.1.2026', expected a day"),
        (edited(lambda s: s.update(schema_version=3)), "schema_version: got 3, expected 4 or 5"),
        (edited(lambda s: s.update(schema_version=True)), "schema_version: got True, expected 4 or 5"),
        (
            edited(lambda s: s["system"].update(trained_on=["a/b"])),
            "system.trained_on: there is no such field in schema version 4",
        ),
        (edited(lambda s: s.update(calibration={"threshold": 0.0})), "missing: calibration.source_dataset"),
        (
            edited(lambda s: s.update(calibration={"threshold": "0", "source_dataset": "a/b"}, schema_version=5)),
            "calibration.threshold: got '0', expected a number",
        ),
        (edited(lambda s: s["scores"].pop("eer_percent")), "scores: holds no metric, expected eer_percent or"),
        (
            edited(lambda s: s["scores"].update(srr_complement=50.0)),
            "scores.srr_complement: needs the section calibration",
        ),
        (
            edited(lambda s: s.update(reproduction={"match": "scoring"})),
            "missing: reproduction.reproduced_by, reproduction.reproduced_at, reproduction.reproduced_bench_version",
        ),
        (edited(lambda s: s["system"]["paper"].pop("bibtex")), "missing: system.paper.bibtex"),
        (edited(lambda s: s["system"].update(paper=None)), "system.paper: got None, expected a section"),
        (edited(lambda s: s.update(notes=None)), "notes: got None, expected a text"),
        (edited(lambda s: s["system"].update(name=None)), "missing: system.name"),
        (edited(lambda s: s["system"].update(code="https://[bad")), "system.code: got 'https://[bad', expected a URL"),
        (edited(lambda s: s["scores"].update(eer_percent=-(10**400))), "scores.eer_percent: got -1000"),
        (edited(lambda s: s["system"].update(params_millions=True)), "system.params_millions: got True"),
        (lambda path: path.write_text("submitted_at: 2026-13-45\n"), "not YAML"),
        (lambda path: path.write_text("system: &a\n  name: *a\n"), "not YAML"),
        (lambda path: path.write_text("- 1\n"), "holds list, expected the fields"),
        (lambda path: path.write_text("system: [\n"), "not YAML"),
        (lambda path: path.write_text("system: !!python/object/apply:os.getcwd []\n"), "not YAML"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not a UTF-8 text file"),
    ],
)
def test_check_finds_what_is_wrong(
    made: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], said: str
) -> None:
    damage(made / "submission.yaml")
    assert said in one_line(lambda: check(made, "--cm", str(made / "ours.txt")), capsys)


def test_a_changed_score_file_is_found(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = made / "scores.txt"
    scores.write_text(scores.read_text().replace("2.750000", "2.750001"))
    said = one_line(lambda: check(made), capsys)
    assert "artifact.scores_sha256" in said
    assert "\n" not in said


def test_a_merged_submission_passes(made: Path) -> None:
    """With the maintainers' block filled in, and days without quotes, as others write them."""
    path = made / "submission.yaml"
    filled = ["reproduced_by: x", "reproduced_at: 2026-05-21", "reproduced_bench_version: y", "match: scoring"]
    text = path.read_text(encoding="utf-8").replace("reproduction: {}", "\n  ".join(["reproduction:", *filled]))
    path.write_text(re.sub(r"submitted_at: .*", "submitted_at: 2026-05-21", text), encoding="utf-8")
    submission = read_submission(path)
    assert missing_fields(submission) == wrong_fields(submission) == []
    assert read_submission(path)["submitted_at"] == "2026-05-21"


def test_keys_of_another_split_are_refused() -> None:
    keys = Keys({"a": True, "c": False}, 2)
    with pytest.raises(InputError, match=r"1 scored utterances are not among the trials, e\.g\. 'b': are the keys of"):
        compute_results({"a": 1.0, "b": 2.0}, keys)
    with pytest.raises(InputError, match="no spoofed trial has a score"):
        compute_results({"a": 1.0}, keys)


# ---- spoofs alone -------------------------------------------------------------------------------

SPOOFS = "u0 A1 spoof -1.0\nu1 A1 spoof -0.5\nu2 A2 spoof 0.25\nu3 A2 spoof 1.0\nu4 A2 spoof unscored\n"
CALIBRATION = {"--calibration-dataset": "SpeechAntiSpoofingBenchmarks/DeepVoice"}


@pytest.fixture
def spoofs(options: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The options of a submission on a data set of spoofs."""
    (tmp_path / "ours.txt").write_text(SPOOFS)
    arena.main(["scores", "--cm", str(tmp_path / "ours.txt"), "--output", str(tmp_path / "scores.txt")])
    return options


def test_spoofs_alone_are_submitted_with_a_threshold_of_another_set(
    spoofs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    submit(spoofs | CALIBRATION | {"--calibration-threshold": "-5e-1", "--trained-on": "a/b, c/d"})
    read = read_submission(tmp_path / "submission.yaml")
    # At or above -0.5 are three of four.
    assert read["scores"] == {"srr_complement": 75.0, "n_trials": 5, "n_skipped": 1}
    assert read["calibration"] == {"source_dataset": "SpeechAntiSpoofingBenchmarks/DeepVoice", "threshold": -0.5}
    assert (read["schema_version"], read["system"]["trained_on"]) == (5, ["a/b", "c/d"])
    check(tmp_path, "--cm", str(tmp_path / "ours.txt"))
    assert "in order, 1-SRR 75.0000 %, 5 trials, 1 skipped" in capsys.readouterr().out
    edited(lambda s: s["calibration"].update(threshold=0.0))(tmp_path / "submission.yaml")
    # Spoofs alone need no keys.
    for keys in (["--cm", str(tmp_path / "ours.txt")], []):
        line = one_line(lambda: check(tmp_path, *keys), capsys)  # noqa: B023
        assert "scores.srr_complement: 75.0, but" in line
        assert "gives 50.0" in line
    edited(lambda s: s["scores"].update(srr_complement=50.0, other=1))(tmp_path / "submission.yaml")
    caplog.set_level("INFO", "s2pecnet")
    check(tmp_path, "--cm", str(tmp_path / "ours.txt"))
    assert "not computed again, as these metrics are not known here: other" in caplog.text


def test_the_threshold_may_be_that_of_an_eer(spoofs: dict[str, str], tmp_path: Path) -> None:
    """Bona fide 0 and 2, spoof 1: the lines cross halfway between 1 and 2."""
    (tmp_path / "dev.txt").write_text("a - bonafide 0\nb A1 spoof 1\nc - bonafide 2\n")
    (tmp_path / "dev_scores.txt").write_text("a 0.0\nb 1.0\nc 2.0\n")
    pair = {"--calibration-scores": str(tmp_path / "dev_scores.txt"), "--calibration-cm": str(tmp_path / "dev.txt")}
    submit(spoofs | CALIBRATION | pair)
    read = read_submission(tmp_path / "submission.yaml")
    assert read["calibration"]["threshold"] == 1.5
    assert read["scores"]["srr_complement"] == 0.0
    with pytest.raises(InputError, match="expected --calibration-threshold, or --calibration-scores with"):
        submit(spoofs | CALIBRATION | {"--calibration-cm": pair["--calibration-cm"]})


def test_spoofs_alone_need_a_threshold(spoofs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    line = one_line(lambda: submit(spoofs), capsys)
    assert "the trials are all spoofed: their metric is srr_complement" in line
    line = one_line(lambda: submit(spoofs | {"--calibration-threshold": "0"}), capsys)
    assert "missing: calibration.source_dataset (--calibration-dataset)" in line


def test_the_schema_of_the_harness_decides_where_it_is_installed(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A later version may allow what our list of fields does not."""
    package = tmp_path / "site" / "speech_spoof_bench"
    (package / "schema").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    schema = {"properties": {"schema_version": {"enum": [4, 6]}, "new": {"type": "integer"}}}
    (package / "schema" / "submission.schema.json").write_text(json.dumps(schema))
    monkeypatch.syspath_prepend(package.parent)
    forget_harness()
    caplog.set_level("INFO", "s2pecnet")
    edited(lambda s: s.update(schema_version=6, new=1))(made / "submission.yaml")
    check(made, "--cm", str(made / "ours.txt"))
    assert "by the JSON Schema of the installed speech_spoof_bench" in caplog.text
    edited(lambda s: s.update(schema_version=5, new="x"))(made / "submission.yaml")
    with pytest.raises(InputError) as caught:
        check(made)
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "new: 'x' is not of type 'integer'", "schema_version: 5 is not one of [4, 6]",
    ]  # fmt: skip
    forget_harness()


@given(st.text(min_size=1))
def test_a_slug_is_a_slug_or_nothing(name: str) -> None:
    assert re.fullmatch("([a-z0-9][a-z0-9-]*)?", slug_of(name))


def test_results_of_a_public_system(shared: Path, tmp_path: Path) -> None:
    """71,237 trials of LA eval: close to the organisers' scorer, which takes the nearest threshold."""
    cm_file = shared / "reference" / "evaluation" / "cm_S2pecNet.txt.gz"
    cm = read_cm_scores(cm_file)
    write_plain_scores(tmp_path / "scores.txt", dict(zip(cm.utterances.tolist(), cm.scores.tolist(), strict=True)))
    results = compute_results(read_plain_scores(tmp_path / "scores.txt"), keys_of_scores(cm_file))
    assert (results.n_trials, results.n_skipped) == (71237, 0)
    assert results.eer_percent == pytest.approx(0.77017, abs=1e-5)


def test_help_is_there_at_once() -> None:
    asked = "import sys, s2pecnet.cli.arena; print('torch' in sys.modules, 'yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False False\n", done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "s2pecnet", "arena", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "s2pecnet arena submission" in done.stdout
