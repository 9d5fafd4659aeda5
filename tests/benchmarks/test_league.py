"""The league trains what is missing, never twice, and its table is that of the runs."""

import json
import shutil
import statistics
from pathlib import Path

import pytest

from benchmarks import league
from s2pecnet.config.experiment import load_config
from s2pecnet.errors import InputError
from s2pecnet.systems.build import get_model

CONFIGS = sorted(league.CONFIGS.glob("*.conf"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_configs_are_small_systems(path: Path) -> None:
    config = load_config(path)
    assert sum(one.numel() for one in get_model(config.model_config, "cpu").parameters()) < 300_000
    assert {one.stem for one in CONFIGS} | {"S2pecNet_plus"} == set(league.SYSTEMS)


@pytest.mark.slow
def test_a_league_of_two_systems(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["num_epochs=1", "model_config.nb_samp=4000", "model_config.filts=[12,[1,4],[4,4],[4,8],[8,8]]"]
    arguments = ["--corpus", str(corpus), "--output_dir", str(tmp_path), "--seeds", "2", "--jobs", "2"]
    arguments += ["--systems", "AASIST", "S2pecNet", *(word for one in small for word in ("--set", one))]
    league.main([*arguments, "--baselines", "--minutes", "0"])
    assert "missing: AASIST, seed 1, 2" in capsys.readouterr().out
    league.main(arguments)
    assert capsys.readouterr().err.count("seed ") == 4
    # What is in the records is not trained again, wherever its weights are.
    records = tmp_path / "records"
    league.main([*arguments, "--records", str(records), "--baselines"])
    assert len([*records.iterdir()]) == 4
    assert len([*records.glob("*/*")]) == 8
    arguments[arguments.index("--output_dir") + 1] = str(tmp_path / "elsewhere")
    capsys.readouterr()
    arguments += ["--records", str(records)]
    league.main(arguments)
    captured = capsys.readouterr()
    assert "seed " not in captured.err
    rows = json.loads((tmp_path / "elsewhere" / "league.json").read_text())["rows"]
    assert [row["system"] for row in rows] == ["AASIST", "S2pecNet", "LFCC-GMM", "LFCC-LR"]
    assert [row["seeds"] for row in rows] == [2, 2, 2, 1]
    for row in rows[:2]:
        runs = sorted(tmp_path.glob(f"LA_{row['system']}_ep1_bs8_seed*/results.json"))
        eers = [json.loads(path.read_text())["metrics"]["eval"]["eer"] for path in runs]
        assert row["eval"] == eers
        assert f"{100 * statistics.fmean(eers):.1f} ± {100 * statistics.stdev(eers):.1f}" in captured.out
    league.main([*arguments, "--dev"])
    printed = capsys.readouterr().out
    assert f"AASIST: dev EER % {100 * statistics.fmean(rows[0]['dev']):.1f} ± " in printed
    assert not {"eval", "GMM"} & set(printed.split())
    for row in rows:
        low, high = row["interval"]
        assert 0 <= low <= high <= 1
    assert all(0 < row["p"] <= 1 for row in rows[1:])
    for path in records.glob("*/results.json"):
        path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 13'))
    with pytest.raises(InputError, match=r"another recipe or corpus \(it differs in batch_size\)"):
        league.main(arguments)


@pytest.mark.slow
def test_what_the_corpus_is_may_be_overridden_and_asv_scores_be_missing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with two tracks, of which the other one is trained on, and which has no ASV scores."""
    root = shutil.copytree(corpus, tmp_path / "both")
    for path in sorted(root.rglob("*"), reverse=True):
        if "_asv_scores" not in str(path):
            target = path.with_name(path.name.replace("_LA_", "_PA_").replace(".LA.", ".PA."))
            if target != path and path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            elif target != path:
                shutil.copy(path, target)
    small = ["num_epochs=1", "model_config.nb_samp=4000", "model_config.filts=[12,[1,4],[4,4],[4,8],[8,8]]", "track=PA"]
    arguments = ["--corpus", str(root), "--output_dir", str(tmp_path / "out"), "--seeds", "1", "--systems", "AASIST"]
    arguments += ["--baselines", "LFCC-LR", *(word for one in small for word in ("--set", one))]
    for _ in range(2):
        league.main(arguments)
        out = capsys.readouterr().out
        assert "missing" not in out
    rows = json.loads((tmp_path / "out" / "league.json").read_text())["rows"]
    assert [row["tdcf"] for row in rows] == [[None], [None]]


def test_an_unknown_system_is_one_line(corpus: Path) -> None:
    with pytest.raises(InputError, match="--systems AASISTX: there is no "):
        league.main(["--corpus", str(corpus), "--systems", "AASISTX"])


@pytest.mark.slow
def test_a_training_that_fails_starts_no_other(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--corpus", str(corpus), "--output_dir", str(tmp_path), "--seeds", "3", "--systems", "AASIST"]
    with pytest.raises(InputError, match="AASIST, seed 1: the training ended with status 2; its message is above"):
        league.main([*arguments, "--set", "batch_size=100000"])
    err = capfd.readouterr().err
    assert "100000" in err
    assert "seed 2" not in err


def test_no_jobs_is_one_line(corpus: Path) -> None:
    with pytest.raises(InputError, match="--jobs 0: expected a number >= 1"):
        league.main(["--corpus", str(corpus), "--jobs", "0"])
