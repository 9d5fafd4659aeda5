"""Whatever stands in an input, a command line ends in success or in one clear line and status 2, never in a traceback.

A case is a sound input that was damaged (a value replaced by another, a line by junk, bytes flipped, the end cut off),
or bytes at random. Each runs through `cli.command.run_command`, as a command line
does. The suite runs a thousand; more by

    S2PEC_FUZZ=20 python -m pytest tests/end_to_end/test_fuzz.py -s -q
"""

import contextlib
import copy
import gzip
import io
import json
import math
import os
import struct
import sys
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2pecnet import experiment
from s2pecnet.arena.schema import read_submission
from s2pecnet.audio.decoding import read_audio, read_crop
from s2pecnet.cli import calibrate, evaluate, train
from s2pecnet.cli.command import run_command
from s2pecnet.config.experiment import load_config
from s2pecnet.conventions import SPLITS
from s2pecnet.corpora.archive import unpack
from s2pecnet.corpora.demo import make_demo_corpus
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.published import read_protocol
from s2pecnet.metrics.calibration import read_calibration
from s2pecnet.shipped import CONFIGS_FOLDER
from s2pecnet.systems import build
from s2pecnet.systems.weights import load_weights, save_weights
from s2pecnet.training.optim import create_optimizer
from s2pecnet.training.step import TrainingStep
from tests.helpers.samples import ASV_TEXT, CM_TEXT, TINIEST, TINY

pytestmark = pytest.mark.slow

FACTOR = int(os.environ.get("S2PEC_FUZZ", "1"))
BUDGET: Counter[str] = Counter()
RUN: Counter[str] = Counter()
REFUSED: Counter[str] = Counter()
LONGEST_MESSAGE_LINE = 1500


def fuzz(kind: str, cases: int) -> settings:
    """`cases` cases of a kind, or as many times more as S2PEC_FUZZ says."""
    BUDGET[kind] += cases * FACTOR
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    # The suite runs the same cases every time; more of them are drawn anew.
    return settings(max_examples=cases * FACTOR, suppress_health_check=checks, derandomize=FACTOR == 1)


def ends_well(kind: str, command: Callable[[], object], *names: Path) -> bool:
    """Run as a command line does; whether it succeeded. A failure has to be clear and to name one of `names`."""

    def main_of_it() -> None:
        command()

    RUN[kind] += 1
    errors = io.StringIO()
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as left,
    ):
        run_command(main_of_it)
    if left.value.code == 0:
        return True
    REFUSED[kind] += 1
    assert left.value.code == 2
    before, found, message = errors.getvalue().rpartition("error: ")
    assert found, errors.getvalue()
    # argparse says how it is to be used first.
    assert before.startswith("usage: ") or all(line.startswith(("warning: ", "note: ")) for line in before.splitlines())
    assert message.endswith("\n")
    assert not names or any(str(name) in message for name in names), message
    for line in message[:-1].split("\n"):
        assert 10 < len(line) < LONGEST_MESSAGE_LINE, message
        assert not any(unicodedata.category(character) == "Cc" for character in line), repr(message)
        assert "Traceback" not in line
    return False


# ---- what goes wrong with values, texts and bytes ----------------------------------------------

WORDS = [
    "",
    " ",
    "True",
    "NaN",
    "None",
    "auto",
    "../../x",
    "/etc/passwd",
    "a\0b",
    "\ud800",
    "\n",
    "é",
    "\u202e",
    "x" * 3000,
]
NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    7,
    50,
    255,
    0.5,
    -0.0,
    1e-300,
    1e39,
    1e300,
    2**31,
    2**63,
    2**64,
    10**30,
    10**400,
    math.nan,
    math.inf,
]
scalars = st.none() | st.booleans() | st.integers(-9, 99) | st.floats() | st.text(max_size=9)
junk = st.recursive(
    st.sampled_from([*WORDS, *NUMBERS]) | scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
) | st.integers(1, 2000).map(lambda depth: json.loads("[" * min(depth, 400) + "]" * min(depth, 400)))

# Values that many a key takes.
mild = (
    st.integers(0, 9) | st.integers(0, 90) | st.integers(2000, 9000) | st.floats(0, 1.5) | st.sampled_from([0.01, 1, 8])
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree of dictionaries and lists."""
    if not isinstance(tree, (dict, list)):
        return []
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    return [(tree, key) for key in keys] + [place for key in keys for place in places(tree[key])]


@st.composite
def damaged_trees(
    draw: st.DrawFn, sound: dict[str, Any], most: int = 3, values: st.SearchStrategy[Any] = junk
) -> dict[str, Any]:
    """A dictionary in which values were replaced, dropped or renamed, or keys were added.

    Args:
        values: what values are replaced by.
    """
    tree = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, most))):
        container, key = draw(st.sampled_from(places(tree) or [(tree, "x")]))
        action = draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename", "add"]))
        if action == "replace":
            container[key] = draw(values)
        elif action == "add" and isinstance(container, dict):
            container[draw(st.text(max_size=8))] = draw(values)
        elif action == "add":
            container.append(draw(values))
        elif container:
            value = container.pop(key)
            if action == "rename" and isinstance(container, dict):
                container[draw(st.sampled_from([key.upper(), key[:-1], f"{key}s", f" {key}", key[::-1]]))] = value
    return tree


@st.composite
def damaged_bytes(draw: st.DrawFn, sound: bytes, pieces: tuple[bytes, ...] = (), most: int = 4) -> bytes:
    """Bytes of which some were flipped, cut out, doubled, or overwritten by `pieces`; or the end is missing."""
    data = sound
    for _ in range(draw(st.integers(1, most))):
        # Headers are where the damage is interesting.
        place = draw(st.integers(0, min(len(data), 100)) | st.integers(0, len(data)))
        behind = place + draw(st.integers(0, 4))
        action = draw(st.sampled_from(["flip", "cut", "piece", "double", "end"]))
        if action == "flip":
            flipped = bytes(value ^ draw(st.integers(1, 255)) for value in data[place : place + 1])
            data = data[:place] + flipped + data[place + 1 :]
        elif action == "cut":
            data = data[:place] + data[behind:]
        elif action == "piece":
            data = data[:place] + draw(st.sampled_from(pieces) if pieces else st.binary(max_size=8)) + data[behind:]
        elif action == "double":
            data = data[:behind] + data[place:]
        else:
            data = data[:place]
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# ---- configs -----------------------------------------------------------------------------------

FULL: dict[str, Any] = json.loads((CONFIGS_FOLDER / "S2pecNet.conf").read_text())
TOKENS = (
    b"1e999", b"-", b"NaN", b"Infinity", b"1" * 30, b"1" * 5000, b"0x10", b"null", b"true", b"\xff\xfe", b"\0",
    b"\\ud800", b"\\u0000", b'"', b"{", b"}",
    b"[" * 5000, b",", b":", b'"batch_size": 3,', b"//", b"\r\n", b"\xef\xbb\xbf", b"'",
)  # fmt: skip


def as_a_run_reads_it(path: Path, overrides: tuple[str, ...] = ()) -> None:
    config = load_config(path, overrides)
    json.dumps([config.raw, config.identity()], indent=2, allow_nan=False)
    name = f"{config.track}_{config.eval_output}"
    assert os.path.basename(name) == name


@fuzz("config", 150)
@given(damaged_trees(FULL).map(json.dumps) | damaged_trees(TINY).map(json.dumps))
def test_configs_with_other_values(folder: Path, text: str) -> None:
    path = folder / "values.conf"
    path.write_text(text)
    ends_well("config", lambda: as_a_run_reads_it(path), path)


@fuzz("config", 100)
@given(damaged_bytes(json.dumps(FULL, indent=1).encode(), TOKENS) | st.binary(max_size=200))
def test_configs_with_other_bytes(folder: Path, data: bytes) -> None:
    path = folder / "bytes.conf"
    path.write_bytes(data)
    ends_well("config", lambda: as_a_run_reads_it(path), path)


@st.composite
def assignments(draw: st.DrawFn) -> str:
    known = [
        "batch_size",
        "optim_config.base_lr",
        "model_config.nb_samp",
        "model_config.x.y",
        "track",
        "eval_output",
        "",
    ]
    key = draw(st.sampled_from([*known, "a." * 500]) | st.text(max_size=9))
    tokens = st.sampled_from([token.decode("latin-1") for token in TOKENS])
    return key + draw(st.sampled_from(["=", "=", "==", "", " = "])) + draw(tokens | junk.map(json.dumps) | st.text())


@fuzz("config", 60)
@given(st.lists(assignments(), min_size=1, max_size=3))
def test_overrides(folder: Path, given: list[str]) -> None:
    path = folder / "sound.conf"
    path.write_text(json.dumps(TINY))
    ends_well("config", lambda: as_a_run_reads_it(path, tuple(given)), path, Path("--set"))


WORTHS = ["0", "-1", "9" * 30, "cpu", "cuda:7", "1,2", "1,1", "../x", "a.b", "x" * 300]
NO_LINE_BREAK = st.text(st.characters(exclude_characters="\n\x85\u2028\u2029"), max_size=9)
ARGUMENTS = [
    "--eval",
    "--resume",
    "--seed",
    "--comment",
    "--device",
    "--seeds",
    "--set",
    "--eval_model_weights",
]


@fuzz("command line", 60)
@given(
    damaged_trees(TINIEST | {"database_path": "nowhere"}, 2, mild | junk).map(json.dumps),
    st.lists(st.tuples(st.sampled_from(ARGUMENTS), NO_LINE_BREAK | st.sampled_from(WORTHS))),
)
def test_command_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, options: list[tuple[str, str]]
) -> None:
    """A training or an evaluation up to where its corpus is missing, or earlier."""
    monkeypatch.chdir(folder)
    path = folder / "command.conf"
    path.write_text(text)
    words = [word for name, value in options for word in ((name,) if name in ("--eval", "--resume") else (name, value))]
    ends_well("command line", lambda: train.main(["--config", str(path), "--output_dir", str(folder / "out"), *words]))


# ---- systems and optimizers --------------------------------------------------------------------

CHOICES: dict[str, list[Any]] = {
    "second_order": ["lfcc", "power", "log_power"],
    "orders": ["both", "first", "second"],
    "fusion": ["attention", "coarse"],
    "fusion_pooling": ["mean", "max"],
    "fusion_residual": [True, False],
    "classifier": ["graphs", "statistics"],
    "reconstruction": ["released", "spectrogram", "none"],
}


@st.composite
def odd_systems(draw: st.DrawFn) -> dict[str, Any]:
    """A system of unusual sizes, many of which can be built."""
    size = st.integers(1, 9)
    a, b, c, d = (draw(size) for _ in range(4))
    shared = {"nb_samp": draw(st.sampled_from([2200, 2600, 4600, 6800, 8999])), "first_conv": draw(st.integers(1, 200))}
    architecture = draw(st.sampled_from(["S2pecNet", "AASIST", "RawNetGatSpoofST", "RawNet2Spoof"]))
    if architecture == "RawNet2Spoof":
        widths = {"gru_node": a, "nb_gru_layer": draw(st.integers(1, 3)), "nb_fc_node": b}
        return {"architecture": architecture, "filts": [a, [a, b], [b, c], [c, c]], **shared, **widths}
    bands = draw(st.integers(1, 12) | st.integers(9, 90))
    if architecture == "S2pecNet":
        d = draw(st.sampled_from([8, 8, 16, d]))
    system = {"architecture": architecture, "filts": [bands, [1, a], [a, b], [b, c], [c, d]], **shared}
    if architecture == "RawNetGatSpoofST":
        return system
    positive = st.floats(0.1, 1) | st.floats(0.1, 1) | st.sampled_from([5e-324, 1.0])
    system |= {"gat_dims": [draw(size), draw(size)], "pool_ratios": [draw(positive) for _ in range(3)]}
    system |= {"temperatures": [draw(positive | st.sampled_from([100, 1e300])) for _ in range(3)]}
    if architecture == "S2pecNet":
        system |= {"nb_frames": draw(st.integers(1, 300) | st.integers(49, 99))}
        system |= {key: draw(st.sampled_from(choices)) for key, choices in CHOICES.items()}
    return system


@fuzz("system", 150)
@given(odd_systems() | odd_systems().flatmap(lambda system: damaged_trees(system, 2, mild | junk)), st.integers(1, 3))
def test_systems(folder: Path, model_config: dict[str, Any], batch: int) -> None:
    """What is accepted can be built, trained a step and scored with."""
    path = folder / "system.conf"
    path.write_text(json.dumps(TINIEST | {"model_config": model_config}))

    def command() -> None:
        config = load_config(path)
        model = build.get_model(config.model_config, "cpu")
        if sum(parameter.numel() for parameter in model.parameters()) > 300_000 or config.samples > 9000:
            return
        optimizer, _ = create_optimizer(model.parameters(), {"base_lr": 1e-3})
        waveforms, labels = torch.randn(batch, config.samples), torch.arange(batch) % 2
        step = TrainingStep(model.train(), optimizer, None, config, torch.device("cpu"))
        step([waveforms], labels)
        model.eval()(waveforms)

    ends_well("system", command)


OPTIMIZERS: list[dict[str, Any]] = [
    FULL["optim_config"] | {"lr_min": 0.0},
    {"base_lr": 0.1, "optimizer": "sgd", "momentum": 0.9, "nesterov": True, "scheduler": "sgdr", "T0": 2, "Tmult": 2},
    {"base_lr": 0.1, "optimizer": "adamw", "scheduler": "multistep", "milestones": [1, 2], "lr_decay": 0.5},
    {"base_lr": 0.1, "scheduler": "keras_decay", "weight_decay": 0.1, "amsgrad": True},
]


@fuzz("optimizer", 80)
@given(
    st.tuples(st.sampled_from(OPTIMIZERS), st.sampled_from([mild, junk])).flatmap(
        lambda how: damaged_trees(how[0], 2, how[1])
    )
)
def test_optimizers(folder: Path, optim_config: dict[str, Any]) -> None:
    path = folder / "optimizer.conf"
    path.write_text(json.dumps(TINY | {"optim_config": optim_config}))

    def command() -> None:
        model = torch.nn.Linear(3, 2)
        options = vars(load_config(path).optim_config) | {"epochs": 3, "steps_per_epoch": 2}
        optimizer, schedule = create_optimizer(model.parameters(), options)
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()

    ends_well("optimizer", command)


# ---- protocols and corpora ---------------------------------------------------------------------

TRIALS = 4
LINES = (
    b"", b" ", b"\t", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\x1c", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xc2\x85",
    b"../x", b"/etc/passwd", b"..", b"\\", b"C:", b" - ", b" spoof", b"bonafide", b"x" * 300, b"x" * 70000,
    b"\xef\xbb\xbf", b"\x1b[2J",
)  # fmt: skip


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    """A corpus of four utterances a split, whose files each case may spoil."""
    return make_demo_corpus(folder / "LA", seed=3, clips_per_split=dict.fromkeys(SPLITS, TRIALS))


@pytest.fixture(scope="module")
def protocol(small: Path) -> bytes:
    return find_split(small, "LA", "train").protocol.read_bytes()


@fuzz("protocol", 120)
@given(st.data())
def test_protocols(folder: Path, protocol: bytes, data: st.DataObject) -> None:
    path = folder / "protocol.txt"
    path.write_bytes(data.draw(damaged_bytes(protocol, LINES) | st.binary(max_size=80)))

    def command() -> None:
        for trial in read_protocol(path):
            assert (folder / "flac" / f"{trial.utterance}.flac").parent == folder / "flac"
            assert f"{trial.utterance} {trial.attack} {trial.key}".split() == [trial.utterance, trial.attack, trial.key]

    ends_well("protocol", command, path)


@fuzz("corpus", 50)
@given(st.data())
def test_corpora(folder: Path, small: Path, data: st.DataObject) -> None:
    """Every batch of the loaders that a config and a corpus give."""
    split = find_split(small, "LA", data.draw(st.sampled_from(SPLITS)))
    spoiled = data.draw(st.sampled_from([split.protocol, *sorted((split.audio / "flac").iterdir())]))
    config = TINIEST | {
        "batch_size": data.draw(st.sampled_from([1, 2, 3, TRIALS, 10**6, 2**63])),
        "audio_cache": data.draw(st.booleans()),
        "on_bad_audio": data.draw(st.sampled_from(["error", "skip"])),
        "model_config": data.draw(st.sampled_from([TINY, TINIEST]))["model_config"],
    }
    sound = spoiled.read_bytes()
    spoiled.write_bytes(data.draw(damaged_bytes(sound, LINES)))

    def command() -> None:
        for loader in experiment.get_loader(small, 1, config, folder / "cache"):
            for batch in loader:
                assert len(batch[0]) <= config["batch_size"]

    try:
        ends_well("corpus", command, small, folder / "cache", Path("config: batch_size"))
    finally:
        spoiled.write_bytes(sound)


# ---- score files -------------------------------------------------------------------------------

FIELDS = (
    *LINES,
    b"nan",
    b"inf",
    b"1e999",
    b"1_0",
    b"-",
    b"0x1",
    b"\xd9\xa1",
    b"1e308",
    b"-1e308",
    b"\x1f\x8b",
    b"target",
)


@fuzz("score file", 120)
@given(damaged_bytes(CM_TEXT.encode(), FIELDS), damaged_bytes(ASV_TEXT.encode(), FIELDS), st.integers(0, 3))
def test_score_files(folder: Path, cm: bytes, asv: bytes, which: int) -> None:
    cm_file, asv_file = folder / "cm.txt", folder / "asv.txt"
    cm_file.write_bytes(cm if which != 1 else CM_TEXT.encode())
    asv_file.write_bytes(asv if which else ASV_TEXT.encode())
    arguments = ["--cm", str(cm_file), "--asv", str(asv_file), "--output", str(folder / "figures.txt")]
    # What is wrong with the rates that follow from sound files is no single file's fault.
    ends_well("score file", lambda: evaluate.main(arguments), cm_file, asv_file, Path("the t-DCF's C1"), Path("C2"))


@fuzz("packed score file", 40)
@given(damaged_bytes(gzip.compress(CM_TEXT.encode() * 40), (b"\xff" * 4, b"\0" * 4, b"\x1f\x8b")))
def test_packed_score_files(folder: Path, content: bytes) -> None:
    path = folder / "cm.txt.gz"
    path.write_bytes(content)
    ends_well("packed score file", lambda: evaluate.main(["--cm", str(path)]), path)


@fuzz("two systems", 60)
@given(
    damaged_bytes(CM_TEXT.encode(), FIELDS, most=2),
    st.lists(st.sampled_from(["A07", "A08", "A9", "-"]), min_size=4),
    st.data(),
)
def test_two_systems_with_attacks_of_their_own(
    folder: Path, damaged: bytes, attacks: list[str], data: st.DataObject
) -> None:
    """The same trials under other names of attacks, or nearly the same trials."""
    one, two = folder / "one.txt", folder / "two.txt"
    one.write_text(CM_TEXT)
    rows = [line.split() for line in CM_TEXT.splitlines()]
    renamed = "".join(f"{row[0]} {attack} {row[2]} {row[3]}\n" for row, attack in zip(rows, attacks, strict=False))
    two.write_bytes(data.draw(st.sampled_from([renamed.encode(), damaged])))
    arguments = ["--cm", str(one), "--cm", str(two), "--output", str(folder / "figures.txt")]
    # Messages call them by their short names.
    ends_well("two systems", lambda: evaluate.main(arguments), one, two, Path("one and two"))


@pytest.fixture(scope="module")
def fitted(folder: Path) -> dict[str, Any]:
    (folder / "dev.txt").write_text(CM_TEXT)
    calibrate.main(["--cm", str(folder / "dev.txt"), "--output", str(folder / "sound.json")])
    found: dict[str, Any] = json.loads((folder / "sound.json").read_text())
    return found


@fuzz("calibration", 80)
@given(st.data())
def test_calibrations(folder: Path, fitted: dict[str, Any], data: st.DataObject) -> None:
    path = folder / "calibration.json"
    tree = damaged_trees(fitted).map(lambda found: json.dumps(found).encode())
    path.write_bytes(data.draw(tree | damaged_bytes(json.dumps(fitted).encode(), TOKENS)))

    def command() -> None:
        found = read_calibration(path)
        assert all(math.isfinite(value) for value in (found.slope, found.offset))
        assert math.isfinite(found.llr(0.5))

    ends_well("calibration", command, path)


SUBMISSION = b"""system: {name: x, url: https://example.org, code: null}
dataset: {name: y, trials: 4}
results: [{metric: eer, value: 12.5}]
made: 2026-01-31
"""


@fuzz("submission", 60)
@given(
    damaged_bytes(
        SUBMISSION, (b"&a", b"*a", b"!!python/object:os.system", b"{", b"- ", b"\t", b"? ", b"---\n", b"<<: ")
    )
)
def test_submissions(folder: Path, content: bytes) -> None:
    path = folder / "submission.yaml"
    path.write_bytes(content)
    ends_well("submission", lambda: read_submission(path), path)


# ---- audio -------------------------------------------------------------------------------------


def encoded(ending: str, channels: int, subtype: str) -> bytes:
    stream = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (900, channels))
    soundfile.write(stream, samples, 16000, format=ending, subtype=subtype)
    return stream.getvalue()


AUDIO = {
    "flac": [encoded("FLAC", 1, "PCM_16"), encoded("FLAC", 2, "PCM_24")],
    "wav": [
        encoded("WAV", 1, "PCM_16"),
        encoded("WAV", 2, "FLOAT"),
        encoded("WAV", 3, "DOUBLE"),
        encoded("WAV", 1, "ULAW"),
    ],
}
COUNTS = (0, 1, 2, 7, 255, 300, 1024, 4000, 16001, 44101, 65535, 2**24, 2**31 - 1, 2**31, 4 * 10**9, 2**32 - 1)
# A count where a header may have one; and floats: NaN, infinite, enormous.
HEADER_PIECES = (
    *(struct.pack("<I", count) for count in COUNTS), *(struct.pack("<H", count % 2**16) for count in COUNTS),
    *(struct.pack(">I", count) for count in COUNTS), struct.pack("<f", math.nan), struct.pack("<f", math.inf),
    struct.pack("<f", 3e38), struct.pack("<d", 1e300), b"data", b"fmt ", b"\xff" * 8, b"\0" * 8,
)  # fmt: skip


@st.composite
def damaged_headers(draw: st.DrawFn) -> tuple[str, bytes]:
    """An audio file whose counts (rate, channels, sizes, lengths) lie, or that is damaged in any other way."""
    ending = draw(st.sampled_from(sorted(AUDIO)))
    data = draw(st.sampled_from(AUDIO[ending]))
    if draw(st.booleans()):
        place = draw(st.sampled_from([4, 8, 16, 18, 20, 21, 22, 24, 28, 32, 34, 36, 40, 44, 48, 50, 52]))
        piece = draw(st.sampled_from(HEADER_PIECES))
        return ending, data[:place] + piece + data[place + len(piece) :]
    return ending, draw(damaged_bytes(data, HEADER_PIECES) | st.binary(max_size=100) | st.just(data[:44]))


@fuzz("audio", 250)
@given(damaged_headers(), st.integers(1, 1200), st.floats(0, 1))
def test_audio(folder: Path, file: tuple[str, bytes], samples: int, place: float) -> None:
    ending, content = file
    path = folder / f"a.{ending}"
    path.write_bytes(content)

    def usable(waveform: np.ndarray) -> None:
        assert waveform.dtype == np.float32
        assert waveform.ndim == 1
        assert len(waveform)
        assert np.isfinite(waveform).all()

    ends_well("audio", lambda: usable(read_audio(path)), path)
    ends_well("audio", lambda: usable(read_crop(path, samples, lambda spare: int(place * spare))), path)


# ---- checkpoints and archives ------------------------------------------------------------------


def net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))


@pytest.fixture(scope="module", params=["w.pth", "w.safetensors"])
def weights(request: pytest.FixtureRequest, folder: Path) -> tuple[str, bytes]:
    save_weights(net(), folder / request.param, {"seed": 3})
    return request.param, (folder / request.param).read_bytes()


@fuzz("checkpoint", 60)
@given(st.data())
def test_checkpoints(folder: Path, weights: tuple[str, bytes], data: st.DataObject) -> None:
    path = folder / f"damaged {weights[0]}"
    path.write_bytes(
        data.draw(damaged_bytes(weights[1], (b"\xff" * 8, b"\0" * 8, b"PK\3\4", b"{")) | st.binary(max_size=99))
    )
    ends_well("checkpoint", lambda: load_weights(net(), path), path)


odd_tensors = st.builds(
    lambda shape, dtype, layout: (
        torch.zeros(shape, dtype=dtype).to_sparse()
        if layout == "sparse"
        else torch.zeros(shape, dtype=dtype, device="meta")
        if layout == "meta"
        else torch.zeros((*shape, 2), dtype=dtype)[..., 0]
        if layout == "strided"
        else torch.zeros(shape, dtype=dtype)
    ),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.sampled_from(
        [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
    ),
    st.sampled_from(["plain", "strided", "sparse", "meta"]),
)


@fuzz("odd tensors", 60)
@given(st.dictionaries(st.sampled_from([*net().state_dict(), "extra", "module.0.weight", ""]), odd_tensors | scalars))
def test_checkpoints_of_odd_tensors(folder: Path, state: dict[str, Any]) -> None:
    """Other types, shapes, layouts and keys: the weights fit, or an error says what does not."""
    path = folder / "odd.pth"
    torch.save({**net().state_dict(), **state}, path)
    model = net()

    def command() -> None:
        load_weights(model, path)
        assert all(tensor.is_floating_point() or tensor.dtype == torch.int64 for tensor in model.state_dict().values())

    ends_well("odd tensors", command, path)


@pytest.fixture(scope="module")
def archives(small: Path) -> list[bytes]:
    """The corpus as an archive, packed in every way."""
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for path in sorted(path for path in small.rglob("*") if path.is_file()):
                archive.writestr(f"LA/{path.relative_to(small)}", path.read_bytes())
        found.append(stream.getvalue())
    return found


@fuzz("archive", 60)
@given(st.data())
def test_archives(folder: Path, archives: list[bytes], data: st.DataObject) -> None:
    sound = data.draw(st.sampled_from(archives))
    # The directory of an archive is at its end.
    end = data.draw(st.integers(0, len(sound)) | st.integers(len(sound) - 900, len(sound)))
    path = folder / "archive" / "LA.zip"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(sound[:end] + data.draw(damaged_bytes(sound[end:] + b"x", (b"../", b"\xff" * 4, b"\0" * 4))))
    target = path.parent / "LA"
    if ends_well("archive", lambda: unpack(path, target), path, path.parent):
        target.rename(folder / f"unpacked {RUN['archive']}")
    assert os.listdir(path.parent) == ["LA.zip"]


# ---- the count ---------------------------------------------------------------------------------


def test_the_suite_runs_at_least_500_cases() -> None:
    assert sum(BUDGET.values()) / FACTOR >= 500
    if set(RUN) == set(BUDGET):
        assert sum(RUN.values()) >= 500
    for kind, cases in BUDGET.items():
        print(f"{kind:<12} {cases:6} asked for {RUN[kind]:6} run {REFUSED[kind]:6} refused", file=sys.stderr)
