"""Optimizers, schedules and seeds, under the names that the released repositories gave them.

The work is done in `s2pecnet/training/optim.py` and `s2pecnet/runtime.py`.
"""

from s2pecnet.config.options import str_to_bool
from s2pecnet.runtime import seed_worker, set_seed
from s2pecnet.training.optim import create_optimizer

__all__ = ["create_optimizer", "seed_worker", "set_seed", "str_to_bool"]
