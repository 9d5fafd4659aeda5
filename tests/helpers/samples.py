"""Small inputs that several test modules share."""

from typing import Any

CM_TEXT = """\
LA_1 - bonafide 2.5
LA_2 A07 spoof -1.25
LA_3 A08 spoof 4.0
LA_4 - bonafide 3e0
"""
ASV_TEXT = "- target 2.0\n- target 3.0\n- nontarget 0.0\n- nontarget 1.0\nA07 spoof 5.0\nA08 spoof -1.0\n"

TINY: dict[str, Any] = {
    "database_path": "./demo_corpus/LA",
    "batch_size": 6,
    "num_epochs": 2,
    "model_config": {
        "architecture": "S2pecNet",
        "nb_samp": 4800,
        "nb_frames": 50,
        "filts": [70, [1, 8], [8, 8], [8, 8], [8, 8]],
        "gat_dims": [8, 8],
        "pool_ratios": [0.5, 0.7, 0.5, 0.5],
        "temperatures": [2.0, 2.0, 100.0, 100.0],
    },
    "optim_config": {"base_lr": 0.001, "lr_min": 1e-5, "scheduler": "cosine"},
}

# Where the system does not matter: a twentieth of TINY's work.
TINIEST: dict[str, Any] = TINY | {
    "model_config": {
        "architecture": "AASIST",
        "nb_samp": 2400,
        "filts": [12, [1, 4], [4, 4], [4, 8], [8, 8]],
        "gat_dims": [8, 8],
        "pool_ratios": [0.5, 0.7, 0.5, 0.5],
        "temperatures": [2.0, 2.0, 100.0, 100.0],
    }
}
