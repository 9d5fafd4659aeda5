"""Datasets of ASVspoof2019, under the names that the released repositories gave them.

The work is done in `s2pecnet/data/` and `s2pecnet/audio/crops.py`.
"""

from s2pecnet.audio.crops import pad, pad_random
from s2pecnet.data.datasets import Dataset_ASVspoof2019_devNeval, Dataset_ASVspoof2019_train, genSpoof_list
from s2pecnet.data.loaders import make_loader

__all__ = [
    "Dataset_ASVspoof2019_devNeval",
    "Dataset_ASVspoof2019_train",
    "genSpoof_list",
    "make_loader",
    "pad",
    "pad_random",
]
