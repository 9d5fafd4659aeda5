"""A config is read once, typed; everything wrong with it is said with file, line and key."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2pecnet.config.experiment import Config, as_config, load_config
from s2pecnet.config.files import MOST_BYTES, find_config
from s2pecnet.config.options import str_to_bool
from s2pecnet.errors import InputError
from s2pecnet.shipped import CONFIGS_FOLDER
from s2pecnet.text import find_keys
from tests.helpers import ROOT
from tests.helpers.samples import TINY

# As the released repositories write their configs: string booleans, keys that only they know.
RELEASED_STYLE = """{
    "database_path": "./LA/",
    "asv_score_path": "ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt",
    "model_path": "./models/weights/AASIST.pth",
    "batch_size": 24,
    "num_epochs": 100,
    "loss": "CCE",
    "track": "LA",
    "eval_all_best": "True",
    "eval_output": "eval_scores_using_best_dev_model.txt",
    "cudnn_deterministic_toggle": "True",
    "cudnn_benchmark_toggle": "False",
    "freq_aug": "False",
    "quux_zzz": 1,
    "model_config": {"architecture": "AASIST", "nb_samp": 64600, "anything": ["goes", 1]},
    "optim_config": {
        "optimizer": "adam",
        "amsgrad": "False",
        "base_lr": 0.0001,
        "lr_min": 0.000005,
        "betas": [0.9, 0.999],
        "weight_decay": 0.0001,
        "scheduler": "cosine"
    }
}
"""


def write(folder: Path, content: str | dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "x.conf"
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    return path


def test_released_files_run_unmodified(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(write(tmp_path, RELEASED_STYLE))
    assert config.eval_all_best is True
    assert config.cudnn_benchmark_toggle is False
    assert config.optim_config.amsgrad is False
    assert config.optim_config.betas == (0.9, 0.999)
    assert config.model_config["anything"] == ["goes", 1]
    (warning,) = caplog.messages
    assert warning.endswith("these keys mean nothing here and are ignored: quux_zzz")


@pytest.mark.parametrize(
    ("name", "batch", "rate", "architecture"),
    [
        ("AASIST", 24, 1e-4, "AASIST"),
        ("AASIST-L", 24, 1e-4, "AASIST"),
        ("S2pecNet", 48, 3e-4, "S2pecNet"),
        ("RawNet2_baseline", 32, 1e-4, "RawNet2Spoof"),
        ("RawGATST_baseline", 10, 1e-4, "RawNetGatSpoofST"),
    ],
)
def test_shipped_configs_have_the_published_values(name: str, batch: int, rate: float, architecture: str) -> None:
    config = load_config(ROOT / "config" / f"{name}.conf")
    assert (config.batch_size, config.optim_config.base_lr, config.architecture) == (batch, rate, architecture)
    assert config.optim_config.lr_min == 5e-6
    assert config.optim_config.scheduler == "cosine"
    assert config.loss_weights == (0.1, 0.9)
    assert config.num_epochs == 100


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"batch_size": 24', '"batchsize": 24', ":5: unknown key 'batchsize'; did you mean 'batch_size'?"),
        (
            '"batch_size": 24',
            '"batch_size": "many"',
            ':5: batch_size: got "many", expected an integer from 1 to 1,000,000',
        ),
        ('"batch_size": 24', '"batch_size": 0', ":5: batch_size: got 0, expected an integer from 1 to 1,000,000"),
        ('"batch_size": 24', '"batch_size": true', ":5: batch_size: got true, expected an integer from 1 to 1,000,000"),
        ('"scheduler": "cosine"', '"scheduler": "cosin"', ':23: optim_config.scheduler: got "cosin", expected one of'),
        ('"optimizer": "adam"', '"optimizer": "adamm"', ':17: optim_config.optimizer: got "adamm", expected one of'),
        ('"base_lr": 0.0001,', '"lr": 0.0001,', ":19: unknown key 'optim_config.lr'; did you mean 'optim_config.base"),
        ('"base_lr": 0.0001,', "", ":16: key 'optim_config.base_lr' is missing; expected a number above 0"),
        ('"loss": "CCE"', '"loss": "BCE"', ':7: loss: got "BCE", expected one of "CCE", "focal"'),
        ('"eval_all_best": "True"', '"eval_all_best": "ja"', ':9: eval_all_best: got "ja", expected true or false'),
        ('"architecture": "AASIST"', '"architectur": "AASIST"', ":15: key 'model_config.architecture' is missing"),
        ("[0.9, 0.999]", '[0.9, "x"]', ':21: optim_config.betas[1]: got "x", expected a number from 0 to 1'),
        ('"track": "LA"', '"track": "../LA"', ":8: track: got '../LA'"),
        ('"eval_scores_using_best_dev_model.txt"', '"../../etc/x"', ":10: eval_output: got '../../etc/x'"),
        ('"batch_size": 24', '"batch_size": 24, "batch_size": 8', ":5: key 'batch_size' stands twice"),
        ('"base_lr": 0.0001', '"base_lr": 1, "base_lr": 1', ":19: key 'optim_config.base_lr' stands twice"),
        ('"batch_size": 24,', '"batch_size": 24', ":6: not valid JSON"),
        ('"base_lr": 0.0001', '"base_lr": NaN', "NaN is not a number that JSON knows"),
        ('"scheduler": "cosine"', '"scheduler": "multistep"', "'multistep' needs optim_config.milestones"),
        ('"lr_min": 0.000005', '"lr_min": 0.1', ":20: optim_config.lr_min: 0.1 is above base_lr 0.0001"),
        ('"optim_config": {', '"optim_config": 3, "optim": {', ":16: optim_config: got 3, expected an object"),
        ('"batch_size": 24', '"batch_size": 1e999', "x.conf: the number 1e999 is too large"),
        ('"base_lr": 0.0001', f'"base_lr": 1{"0" * 400}', "x.conf: the number 1000000"),
        ('"anything"', f'"seed": 1{"0" * 5000}, "anything"', "x.conf: the number 1000000"),
        ('"goes"', "1e999", "x.conf: the number 1e999 is too large"),
        ('"goes"', "[" * 40 + "]" * 40, "x.conf: nested too deeply to be a config"),
        ('"goes"', "[" * 5000 + "]" * 5000, "x.conf: nested too deeply to be a config"),
        ('"./LA/"', '"LA\\u0000"', ':2: database_path: got "LA\\u0000", expected a text without control characters'),
        ('"./LA/"', '"LA\\ud800"', ":2: database_path: got"),
        (
            '"base_lr": 0.0001',
            '"base_lr": 1e39',
            ":19: optim_config.base_lr: got 1e+39, expected a number above 0, up to 1,000,000",
        ),
        ('"weight_decay": 0.0001', '"weight_decay": 1e39', ":22: optim_config.weight_decay: got 1e+39"),
        ("[0.9, 0.999]", "[0.9, 1]", ":21: optim_config.betas: got [0.9, 1.0], expected numbers below 1"),
        (
            '"batch_size": 24',
            '"num_workers": 1000000',
            ":5: num_workers: got 1000000, expected an integer from 0 to 256 or null",
        ),
        (
            '"nb_samp": 64600',
            '"nb_samp": 1000000000000',
            "x.conf:15: model_config.nb_samp: got 1000000000000, expected an int",
        ),
        ('"eval_scores_using_best_dev_model.txt"', '"results.json"', ":10: eval_output: the run writes another"),
        ('"eval_scores_using_best_dev_model.txt"', '"weights"', ":10: eval_output: the run writes another 'weights'"),
    ],
)
def test_problems_are_named_with_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in RELEASED_STYLE
    with pytest.raises(InputError) as caught:
        load_config(write(tmp_path, RELEASED_STYLE.replace(old, new)))
    assert message in str(caught.value)


def test_all_problems_at_once(tmp_path: Path) -> None:
    broken = TINY | {"batch_size": 0, "num_epoch": 3, "track": 5, "model_config": {"nb_samp": -1}}
    with pytest.raises(InputError) as caught:
        load_config(write(tmp_path, broken))
    text = str(caught.value)
    assert all(key in text for key in ("batch_size", "num_epoch", "track", "nb_samp", "architecture"))
    assert "'num_epochs' is missing" not in text  # it is misspelt


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff" + RELEASED_STYLE)
    assert load_config(path).batch_size == 24


def test_what_is_too_large_for_a_config_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, RELEASED_STYLE + " " * MOST_BYTES)
    with pytest.raises(InputError, match=r"x\.conf: larger than 256 KiB"):
        load_config(path)
    with pytest.raises(InputError, match="/dev/zero: larger than 256 KiB"):
        load_config("/dev/zero")


def test_values_are_shown_up_to_a_length(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(write(tmp_path, TINY | {"batch_size": "x" * 5000, "track": "/" * 5000}))
    assert all(len(line) < 400 for line in str(caught.value).splitlines())


def test_dictionaries_with_numbers_that_no_machine_holds() -> None:
    for value in (10**400, float("inf"), float("nan"), 2**64):
        with pytest.raises(InputError, match="config: batch_size: got"):
            as_config(TINY | {"batch_size": value})


def test_missing_config_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no such config; did you mean .*AASIST\.conf"):
        load_config(ROOT / "config" / "AASSIST.conf")


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, TINY)
    config = load_config(
        path,
        ["batch_size=3", "optim_config.base_lr=1e-5", "model_config.orders=first", "database_path=/data", "seed=null"],
    )
    assert config.batch_size == 3
    assert config.optim_config.base_lr == 1e-5
    assert config.model_config["orders"] == "first"
    assert config.database_path == "/data"
    assert json.loads(json.dumps(config.raw))["batch_size"] == 3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("batch_size", "expected key=value"),
        ("batchsize=3", r"--set batchsize: unknown key 'batchsize'; did you mean 'batch_size'"),
        ("xyzzy=3", r"--set xyzzy: there is no such key \(have: "),
        ("batch_size=big", r'--set batch_size: batch_size: got "big", expected an integer'),
        ("batch_size.x=1", "'batch_size' is a single value"),
        ("model_config.x=NaN", "--set model_config.x: NaN is not a number that JSON knows"),
        ("model_config.x=" + "[" * 50000, "--set model_config.x: nested too deeply"),
        (f"model_config.{'a.' * 60}b=1", "nested too deeply to be a config"),
        ("\x1b[2J=1", "expected key=value"),
    ],
)
def test_overrides_that_cannot_work(tmp_path: Path, assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(write(tmp_path, TINY), [assignment])


def test_dictionaries_are_configs_too() -> None:
    config = as_config(TINY)
    assert isinstance(config, Config)
    assert as_config(config) is config
    with pytest.raises(InputError, match="config: unknown key 'batchsize'"):
        as_config({**TINY, "batchsize": 1})


def test_the_written_config_reads_the_same(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, RELEASED_STYLE))
    again = load_config(write(tmp_path, config.raw))
    assert again == config


@given(st.dictionaries(st.text(max_size=12), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8),
    max_size=4))  # fmt: skip
def test_any_dictionary_is_a_config_or_an_input_error(extra: dict[str, Any]) -> None:
    keys = iter([*TINY, "track", "seed", "optim_config"])
    changed = {next(keys, name): value for name, value in extra.items()}
    for content in (TINY | extra, TINY | changed, extra):
        with contextlib.suppress(InputError):
            assert isinstance(as_config(content), Config)


@pytest.mark.parametrize("word", ["True", "true", "1", "yes", "on", True])
def test_words_for_true(word: str | bool) -> None:
    assert str_to_bool(word) is True


def test_words_for_neither() -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        str_to_bool("maybe")


@pytest.mark.parametrize("name", ["AASIST", "AASIST.conf", "config/AASIST", "config/AASIST.conf"])
def test_configs_are_found_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="s2pecnet")
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == CONFIGS_FOLDER / "AASIST.conf"
    assert caplog.messages == [f"config {name} is {CONFIGS_FOLDER / 'AASIST.conf'}"]
    (tmp_path / "AASIST").mkdir()
    assert find_config(name) == CONFIGS_FOLDER / "AASIST.conf"
    # A bare name is the framework's own, whatever lies in ./config/; a path that is there is that file.
    write(tmp_path / "config", TINY).rename(tmp_path / "config" / "AASIST.conf")
    write(tmp_path / "config", TINY).rename(tmp_path / "config" / "Mine.conf")
    assert find_config(name) == (CONFIGS_FOLDER / "AASIST.conf" if "/" not in name else Path("config/AASIST.conf"))
    assert find_config("Mine") == Path("config/Mine.conf")
    write(tmp_path, TINY).rename(tmp_path / "AASIST.conf")
    assert find_config("AASIST.conf") == Path("AASIST.conf")
    assert load_config("AASIST.conf").batch_size == 6


def test_names_of_no_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"AASSIST: no such config; did you mean .*/config/AASIST\.conf"):
        load_config("AASSIST")
    with pytest.raises(InputError, match=r"xyzzy: no such config \(the framework's own: AASIST, AASIST-L, "):
        load_config("xyzzy")
    # A folder was named: nothing is guessed from elsewhere.
    with pytest.raises(InputError, match=r"elsewhere/AASIST.conf: no such config$"):
        load_config("elsewhere/AASIST.conf")


# ---- configs that extend others ------------------------------------------------------------------


def write_as(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4))
    return path


def test_a_config_extends_another_key_by_key(tmp_path: Path) -> None:
    write_as(tmp_path / "base.conf", TINY)
    write_as(tmp_path / "middle.conf", {"extends": "base.conf", "optim_config": {"base_lr": 0.5}, "batch_size": 3})
    path = write_as(tmp_path / "sub" / "child.conf", {"extends": "../middle.conf", "batch_size": 4})
    config = load_config(path, ["optim_config.lr_min=0.1"])
    optim = TINY["optim_config"] | {"base_lr": 0.5, "lr_min": 0.1}
    assert config.raw == TINY | {"batch_size": 4, "optim_config": optim}
    assert config.name == "child"


def test_problems_name_the_file_that_has_the_key(tmp_path: Path) -> None:
    write_as(tmp_path / "base.conf", TINY | {"num_epochs": -1})
    path = write_as(tmp_path / "child.conf", {"extends": "base.conf", "batch_size": 0})
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert f"{tmp_path / 'base.conf'}:4: num_epochs: got -1, expected an integer of at least 1" in str(caught.value)
    assert f"{path}:3: batch_size: got 0" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"extends": "nowhere.conf"}, r"x\.conf:2: extends: there is no file .*nowhere\.conf"),
        ({"extends": "x.conf"}, r"x\.conf:2: extends: these configs extend each other: .*x\.conf"),
        ({"extends": 3}, r"x\.conf:2: extends: expected the name of a config file"),
        ({"extends": "base.conf"}, r"x\.conf:2: extends: there is no file"),
    ],
)
def test_what_cannot_be_extended_is_one_line(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_config(write_as(tmp_path / "x.conf", content))
    assert "\n" not in str(caught.value)


def test_a_config_may_extend_one_of_the_framework(tmp_path: Path) -> None:
    config = load_config(write_as(tmp_path / "mine.conf", {"extends": "AASIST", "batch_size": 2}))
    assert (config.architecture, config.batch_size) == ("AASIST", 2)


def test_lines_are_those_of_the_very_key() -> None:
    """Not of a key of the same name that stands in another object before it."""
    text = (
        '{\n"model_config": {\n"batch_size": [1, {"seed": 3}],\n"a": "\\"seed\\": {"},\n"seed": 1,\n"batch_size":\n2}'
    )
    lines = {key: line for _, key, line in find_keys(text)}
    assert (lines["model_config.batch_size"], lines["seed"], lines["batch_size"]) == (3, 5, 6)


def test_the_former_name_of_a_key_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    assert as_config(TINY | {"unsplit": "eval"}).split_policy == "eval"
    assert caplog.messages == ["config: key unsplit is now called split_policy"]


@pytest.mark.parametrize(
    "name", ["report.html", "Report.HTML", "summary.json", "cache", "DEV_scores.txt", "metric_log.txt"]
)
def test_scores_cannot_take_the_name_of_another_file_of_the_run(name: str) -> None:
    with pytest.raises(InputError, match="eval_output: the run writes another"):
        as_config(TINY | {"eval_output": name})


def test_scores_have_a_name_that_every_disk_takes() -> None:
    with pytest.raises(InputError, match="eval_output: longer than 200 bytes"):
        as_config(TINY | {"eval_output": "x" * 201})


def test_a_slip_of_extends_and_a_name_too_long_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.conf:2: unknown key 'extend'; did you mean 'extends'\?"):
        load_config(write_as(tmp_path / "x.conf", {"extend": "AASIST"}))
    with pytest.raises(InputError, match=r"x\.conf:2: extends: there is no file "):
        load_config(write_as(tmp_path / "x.conf", {"extends": "a" * 3000}))


def test_a_key_is_not_given_by_both_its_names() -> None:
    with pytest.raises(InputError, match="unsplit is the former name of split_policy, which is given too; keep one"):
        as_config(TINY | {"unsplit": "eval", "split_policy": "eval"})


def test_values_under_a_former_name_are_named_with_their_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, RELEASED_STYLE.replace('"batch_size": 24', '"batch_size": 24, "unsplit": "evil"'))
    with pytest.raises(InputError, match=r'x\.conf:5: split_policy: got "evil", expected one of "divide", "eval"'):
        load_config(path)
    assert caplog.messages == [f"{path}:5: key unsplit is now called split_policy"]


@pytest.mark.parametrize(
    ("name", "algorithm"), [("XLSR_AASIST", 5), ("XLSR_AASIST_DF", 3), ("XLSR_Nes2Net", 4), ("XLSR_SLS", 3)]
)
def test_recipes_have_the_rawboost_of_their_authors(name: str, algorithm: int) -> None:
    config = load_config(ROOT / "config" / f"{name}.conf")
    assert [(one.step, getattr(one, "algorithm", None)) for one in config.augment] == [("rawboost", algorithm)]
    assert (config.train_crop, config.select_by) == ("first", "loss")
