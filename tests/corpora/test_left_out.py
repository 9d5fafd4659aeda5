"""`leave_out`: a split without some of its attacks, to see how a system meets attacks that it never heard."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from s2pecnet.cli import train
from s2pecnet.config.experiment import as_config, load_config
from s2pecnet.corpora.trials import Corpus
from s2pecnet.errors import InputError
from s2pecnet.experiment import corpus_of, get_loader
from tests.helpers.made_corpora import make_csv, make_parquet
from tests.helpers.samples import TINIEST


def config_of(database_path: Any, tmp_path: Path, **left_out: list[str]) -> Any:
    return as_config(TINIEST | {"database_path": database_path, "leave_out": left_out, "num_epochs": 1})


def attacks_of(corpus: Corpus, split: str) -> list[str]:
    return [attack for attack in corpus[split].trials.attack.present() if attack != "-"]


@pytest.mark.parametrize("make", [None, make_csv, make_parquet], ids=["LA", "CSV", "Parquet"])
def test_the_spoofs_of_these_attacks_are_not_there(make: Any, corpus: Path, tmp_path: Path) -> None:
    root = str(corpus if make is None else make(corpus, tmp_path / "made"))
    whole = corpus_of(config_of(root, tmp_path))
    first, *others = attacks_of(whole, "train")
    part = corpus_of(config_of(root, tmp_path, train=[first], dev=others))
    assert attacks_of(part, "train") == others
    assert attacks_of(part, "dev") == [first]
    assert attacks_of(part, "eval") == attacks_of(whole, "eval")
    for split, gone in (("train", [first]), ("dev", others)):
        kept = [trial for trial in whole[split].trials if trial.attack not in gone]
        assert list(part[split].trials) == kept
        assert part[split].trials.digest != whole[split].trials.digest
    # The files that are read are those of the trials that stay.
    loaders = [get_loader(root, 1, config_of(root, tmp_path, dev=out))[1] for out in ([], others)]
    all_, some = (
        {name: wave for waves, names in loader for name, wave in zip(names, waves, strict=True)} for loader in loaders
    )
    assert len(some) == len(part["dev"].trials) < len(all_)
    assert all((all_[name] == wave).all() for name, wave in some.items())


def test_a_split_without_its_attacks_is_another_experiment(corpus: Path, tmp_path: Path) -> None:
    plain, without = config_of(str(corpus), tmp_path), config_of(str(corpus), tmp_path, train=["A01"])
    assert not [key for key in plain.identity() if key.startswith("leave_out")]
    assert without.identity()["leave_out.train"] == ["A01"]


def test_several_corpora_name_theirs(corpus: Path, tmp_path: Path) -> None:
    path = [str(corpus), {"path": str(make_csv(corpus, tmp_path / "mine")), "weight": 2}]
    found = corpus_of(config_of(path, tmp_path, train=["LA/A01", "mine/A02"]))
    assert [part.split.trials.attack.present()[1] for part in found["train"].filled()] == ["A02", "A01"]
    wrong = "expected NAME/attack, with a NAME of database_path"
    with pytest.raises(InputError, match=rf"leave_out\.train: got 'A01', {wrong} \(LA, mine\)"):
        config_of(path, tmp_path, train=["A01"])
    with pytest.raises(InputError, match=r"leave_out\.train names the attack 'A99'"):
        _ = corpus_of(config_of(path, tmp_path, train=["mine/A99"]))["train"].trials
    # The same bona fide trials twice.
    again = [{"path": str(corpus), "name": "a"}, {"path": str(corpus), "name": "b"}]
    with pytest.raises(InputError, match="are the same corpus"):
        corpus_of(config_of(again, tmp_path, train=["a/A01", "b/A02"]))


def test_what_is_not_there_and_what_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    for wrong in ("A9", "-", "a01"):
        with pytest.raises(
            InputError, match=rf"leave_out\.dev names the attack '{wrong}', which dev lacks; it has A01"
        ):
            _ = corpus_of(config_of(str(corpus), tmp_path, dev=[wrong]))["dev"].trials
    attacks = attacks_of(corpus_of(config_of(str(corpus), tmp_path)), "train")
    found = corpus_of(config_of(str(corpus), tmp_path, train=attacks))["train"]
    with pytest.raises(InputError, match=r"leave_out\.train leaves no spoofs of train; both classes are needed"):
        _ = found.trials
    assert found.of_any_class().trials.keys() == ["bonafide"]


def test_a_training_reports_the_attacks_that_it_did_not_hear(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "own.conf"
    path.write_text(json.dumps(TINIEST | {"database_path": str(corpus), "num_epochs": 1}))
    sets = ['leave_out.train=["A01", "A02"]', 'leave_out.dev=["A03"]']
    assert load_config(path, sets).leave_out.train == ("A01", "A02")
    words = [word for assignment in sets for word in ("--set", assignment)]
    with caplog.at_level(logging.INFO):
        assert train.main(["--config", str(path), "--output_dir", str(tmp_path), *words]) == 0
    (results,) = tmp_path.rglob("results.json")
    record = json.loads(results.read_text())
    assert {"A01", "A02"} <= set(record["metrics"]["dev"]["per_attack_eer"])
    assert "A03" not in record["metrics"]["dev"]["per_attack_eer"]
    # The ASV scores of dev are those of all its attacks.
    assert record["metrics"]["dev"]["min_tdcf"] is None
    assert record["metrics"]["eval"]["min_tdcf"] is not None
    assert "attacks are left out of dev" in caplog.text
