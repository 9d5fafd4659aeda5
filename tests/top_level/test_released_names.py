"""The names that forks import, with their released signatures: from the thin files at the top, and the real thing."""

import importlib
import inspect

import pytest

# Parameters of the released repositories, in their order; ours may have more behind them, all with defaults.
RELEASED = {
    "main": {
        "get_model": ["model_config", "device"],
        "get_loader": ["database_path", "seed", "config"],
        "train_epoch": ["trn_loader", "model", "optim", "device", "scheduler", "config"],
        "produce_evaluation_file": ["data_loader", "model", "device", "save_path", "trial_path"],
    },
    "data_utils": {
        "genSpoof_list": ["dir_meta", "is_train", "is_eval"],
        "pad": ["x", "max_len"],
        "pad_random": ["x", "max_len"],
        "Dataset_ASVspoof2019_train": ["list_IDs", "labels", "base_dir"],
        "Dataset_ASVspoof2019_devNeval": ["list_IDs", "base_dir"],
    },
    "evaluation": {
        "calculate_tDCF_EER": ["cm_scores_file", "asv_score_file", "output_file", "printout"],
        "compute_det_curve": ["target_scores", "nontarget_scores"],
        "compute_eer": ["target_scores", "nontarget_scores"],
        "compute_tDCF": [
            "bonafide_score_cm", "spoof_score_cm", "Pfa_asv", "Pmiss_asv", "Pmiss_spoof_asv", "cost_model",
            "print_cost",
        ],
        "obtain_asv_error_rates": ["tar_asv", "non_asv", "spoof_asv", "asv_threshold"],
    },
    "utils": {
        "create_optimizer": ["model_parameters", "optim_config"],
        "set_seed": ["seed", "config"],
        "seed_worker": ["worker_id"],
        "str_to_bool": ["val"],
    },
}  # fmt: skip


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in RELEASED.items() for name in names])
def test_a_released_name_has_its_released_signature(module: str, name: str) -> None:
    found = getattr(importlib.import_module(module), name)
    parameters = list(inspect.signature(found).parameters.values())
    released = RELEASED[module][name]
    assert [parameter.name for parameter in parameters[: len(released)]] == released
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters[len(released) :])


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in RELEASED.items() for name in names if name != "calculate_tDCF_EER"],
)
def test_it_is_the_real_thing(module: str, name: str) -> None:
    """Not a copy: the package's own function or class."""
    assert getattr(importlib.import_module(module), name).__module__.startswith("s2pecnet.")
