"""`database_path` as a list: what an entry takes, what is refused, and what decides about the results."""

import json
from pathlib import Path
from typing import Any

import pytest

from s2pecnet.config.experiment import as_config, load_config
from s2pecnet.corpora.trials import CorpusOptions
from s2pecnet.errors import InputError
from tests.helpers.samples import TINIEST


def config_of(database_path: Any, **changes: Any) -> Any:
    return as_config(TINIEST | {"database_path": database_path} | changes)


def test_an_entry_takes_the_values_of_the_config_where_it_has_none() -> None:
    own = {"path": "x", "name": "B", "weight": 0.5, "track": "DF", "corpus": "csv", "split_policy": "eval",
           "eval_subset": "all", "splits": ["train", "train"]}  # fmt: skip
    config = config_of(["data/LA/", own], track="PA", corpus="folders", split_policy="divide")
    first, second = config.sources
    assert first[:6] == ("LA", "data/LA/", "folders", CorpusOptions("PA", "divide", "eval"), 1.0, None)
    assert second[:6] == ("B", "x", "csv", CorpusOptions("DF", "eval", "all"), 0.5, ("train",))
    assert config_of("data/LA").sources == []


def test_asv_scores_of_an_entry_come_first() -> None:
    config = config_of(["a", {"path": "b", "asv_score_path": "own.txt"}], asv_score_path="all.txt")
    assert [config.asv_scores("eval", name) for name in ("a", "b", None)] == ["all.txt", "own.txt", "all.txt"]
    assert config.asv_scores("dev", "b") is None


def test_names_and_weights_are_part_of_the_experiment_and_paths_are_not() -> None:
    one = config_of(["/here/LA", {"path": "x", "name": "B", "weight": 2}]).identity()
    assert one == config_of([{"path": "/there/LA"}, {"path": "y", "name": "B", "weight": 2.0}]).identity()
    other = config_of(["/here/LA", {"path": "x", "name": "B"}]).identity()
    assert {key for key in one if one[key] != other[key]} == {"weight of B"}


def test_a_single_path_is_the_experiment_that_it_was() -> None:
    identity = config_of("LA").identity()
    assert not [key for key in identity if "weight of" in key or "database_path" in key]
    assert identity == config_of("elsewhere").identity()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], 'database_path: got [], expected a path, or a list of paths and objects {"path": ...}'),
        (3, "database_path: got 3, expected a path, or a list"),
        ({"path": "LA"}, 'database_path: got {"path": "LA"}, expected a path, or a list'),
        (["LA", 3], 'database_path[1]: got 3, expected a text or {"path": ...}'),
        (["LA", None], "database_path[1]: got null, expected a text"),
        (["LA", ["LA"]], "database_path[1]: got"),
        ([{"name": "B"}], "key 'database_path[0].path' is missing; expected a text"),
        ([{"path": "b", "wieght": 1}], "unknown key 'database_path[0].wieght'; did you mean 'database_path[0].weight"),
        ([{"path": "b", "colour": 1}], "database_path[0].colour: there is no such key (have: path, name, weight,"),
        ([{"path": "b", "weight": 0}], "database_path[0].weight: got 0, expected a number above 0, up to 1,000"),
        ([{"path": "b", "weight": "2"}], 'database_path[0].weight: got "2", expected a number'),
        ([{"path": "b", "splits": []}], 'database_path[0].splits: got [], expected a list of "train", "dev", "eval"'),
        ([{"path": "b", "splits": ["test"]}], 'database_path[0].splits: got ["test"], expected a list of'),
        ([{"path": "b", "corpus": "lmdb"}], 'database_path[0].corpus: got "lmdb", expected one of "auto"'),
        (["a/LA", "b/LA"], "database_path[1]: the name of its folder, 'LA', is that of database_path[0] too"),
        (["LA", {"path": "b", "name": "LA"}], "database_path[1].name: 'LA' is that of database_path[0] too"),
        (["my corpus"], "database_path[0]: the name of its folder, 'my corpus', cannot be one: expected 1 to 60"),
        (["/"], 'database_path[0]: the name of its folder, \'\', cannot be one: '),
        ([{"path": "b", "name": "a/b"}], 'database_path[0].name: \'a/b\' cannot be one: expected 1 to 60 characters'),
        ([{"path": "b", "name": "a:b"}], "without white space"),
        ([{"path": "b", "name": ""}], "database_path[0].name: '' cannot be one"),
        ([{"path": "b", "name": "x" * 61}], "cannot be one: expected 1 to 60 characters"),
        ([{"path": "b", "name": "a\nb"}], 'database_path[0].name: got "a\\nb", expected a text without control'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_the_key(given: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        config_of(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_problem_of_a_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "two.conf"
    path.write_text(json.dumps(TINIEST | {"database_path": ["LA", {"path": "b", "weight": -1}]}, indent=1))
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if '"weight"' in text)
    with pytest.raises(InputError, match=rf"two\.conf:{line}: database_path\[1\]\.weight: got -1"):
        load_config(path)
    given = json.dumps(["LA", {"path": "LA"}])
    with pytest.raises(InputError, match=r"--set database_path\[1\]\.name: database_path\[1\]: the name of its folder"):
        load_config(path, [f"database_path={given}"])
