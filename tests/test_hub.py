"""Model repositories: the card of a run, a folder of it, and the way back; the Hub itself is a stand-in."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml

from s2pecnet import load_scorer
from s2pecnet.cli import card as card_command
from s2pecnet.config.experiment import load_config
from s2pecnet.errors import InputError
from s2pecnet.experiment import RunOptions, train
from s2pecnet.hub import from_pretrained, model_card, push_to_hub, save_pretrained
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.systems.weights import description
from tests.helpers.samples import TINIEST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of a second."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiniest.conf").write_text(json.dumps(TINIEST | {"database_path": str(corpus)}))
    config = load_config(folder / "tiniest.conf")
    options = RunOptions("cpu", folder / "out")
    train(config, 3, options)
    return options.folder(config).path


def parts(card: str) -> tuple[dict[str, Any], str]:
    _, header, text = card.split("---\n", 2)
    return yaml.safe_load(header), text


def test_the_card_says_what_the_run_record_says(run: Path) -> None:
    record = RunRecord.read(run / "results.json")
    header, text = parts(model_card(run, "mit"))
    assert (header["license"], header["library_name"]) == ("mit", "s2pecnet")
    dev, evaluation = header["model-index"][0]["results"]
    assert (dev["dataset"]["split"], evaluation["dataset"]["split"]) == ("dev", "eval")
    assert evaluation["metrics"][0]["value"] == round(100 * record.metrics["eval"].eer, 4)
    assert f"{record.parameters:,} parameters" in text
    assert f"(epoch {record.selected_epoch})" in text
    assert "seed 3" in text
    assert "license" not in parts(model_card(run))[0]
    assert header["model-index"][0]["name"] == "tiniest"
    # The Hub's own reader takes it.
    results = huggingface_hub.ModelCardData(**header).eval_results
    assert {result.metric_type for result in results or []} >= {"eer"}


def test_the_card_says_what_the_metrics_are_of(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    text = parts(model_card(other))[1]
    assert "windows of the complete recording" not in text
    assert "left out" not in text
    content = json.loads((other / "config.conf").read_text())
    content |= {"eval_crop": "windows", "leave_out": {"train": ["A01"], "dev": [], "eval": ["A07", "A08"]}}
    (other / "config.conf").write_text(json.dumps(content))
    text = parts(model_card(other))[1]
    assert "the mean over windows of the complete recording" in text
    assert "Attacks that were left out: of train A01; of eval A07, A08." in text


def test_a_repository_scores_as_the_run(run: Path, tmp_path: Path) -> None:
    folder = save_pretrained(run, tmp_path / "repository")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.conf", "model.safetensors"]
    waves = torch.randn(3, 2400, generator=torch.Generator().manual_seed(0)) / 10
    best = load_scorer(run / "config.conf", run / "weights" / "best.pth", "cpu")
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert torch.equal(torch.as_tensor(from_pretrained(moved, "cpu")(waves)), torch.as_tensor(best(waves)))
    assert (
        description(moved / "model.safetensors")["calibration"]
        == description(run / "weights" / "best.pth")["calibration"]
    )
    assert str(run) not in (moved / "config.conf").read_text() + (moved / "README.md").read_text()


def test_pushed_and_fetched_it_is_the_same(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Api:
        def create_repo(self, repo_id: str, **options: Any) -> None:
            made.append((repo_id, options))

        def upload_folder(self, repo_id: str, folder_path: str) -> str:
            shutil.copytree(folder_path, tmp_path / repo_id)
            return f"https://huggingface.co/{repo_id}"

    def snapshot_download(repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        made.append((revision, allow_patterns))
        return str(tmp_path / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(run)
    assert push_to_hub(run, "me/tiny", private=True) == "https://huggingface.co/me/tiny"
    waves = torch.zeros(1, 2400) + 0.1
    assert torch.isfinite(torch.as_tensor(from_pretrained("me/tiny", "cpu", revision="abc")(waves))).all()
    assert made == [
        ("me/tiny", {"private": True, "exist_ok": True}),
        ("abc", ["config.conf", "model.safetensors"]),
    ]


def test_a_repository_replaces_nothing_else(run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"holds a config\.conf that is not of a model repository; choose another"):
        card_command.main([str(run), "--save", str(run)])
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"holds a README\.md that is not of a model repository"):
        save_pretrained(run, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    # An earlier repository is made again.
    for _ in range(2):
        save_pretrained(run, tmp_path / "repository", "mit")


def test_a_network_that_fails_is_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ConnectError(Exception):
        """As that of the library by which huggingface_hub speaks to the network: no OSError."""

    class Api:
        def create_repo(self, *_: Any, **__: Any) -> None:
            raise ConnectError("connection refused")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    with pytest.raises(InputError, match=r"me/tiny: the Hub refuses \(connection refused\)"):
        push_to_hub(run, "me/tiny")


def test_what_cannot_be_had_is_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"holds no results\.json; expected the folder of a finished training"):
        model_card(tmp_path)
    with pytest.raises(InputError, match=r"holds no config\.conf; expected what save_pretrained or push_to_hub wrote"):
        from_pretrained(tmp_path)
    with pytest.raises(InputError, match="no such folder, and not to be had from the Hub"):
        from_pretrained("no such/name of any/kind")

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no network\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(InputError, match=r"not to be had from the Hub \(no network\)"):
        from_pretrained("me/absent")


def test_the_command_prints_or_saves(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert card_command.main([str(run)]) == 0
    assert capsys.readouterr().out == model_card(run)
    assert card_command.main([str(run), "--license", "mit", "--save", str(tmp_path / "r")]) == 0
    assert (tmp_path / "r" / "README.md").read_text() == model_card(run, "mit")
