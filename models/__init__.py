"""The systems: one architecture a file, each exposing `Model`. What they are made of stands in `s2pecnet.nn`.

A file `models/<name>.py` is found by the `architecture` of a config; nothing has to be registered. It may lie here, in
a folder `models/` where the command is run, or beside the config (see `s2pecnet.systems.registry`). The contract:

- `Model(model_config)`: `model_config` is the config's dictionary of that name, as it stands.
- `forward(x)`: x float32 (B, samples); returns a tuple whose second element is the logits (B, 2), column 1 = bona fide.

Optional, discovered by name:

- `forward(..., Freq_aug=False)`: receives True in training when the config's `freq_aug` is on.
- `Model.utterance_feature(model_config)`, a static method: a module (samples,) -> (bins, frames), with a keyword
  `rng`, that the loader applies to the complete utterance; `forward(x, feature)` then takes it as its second input.
- `loss(outputs, inputs, labels, criterion)`: replaces `criterion(logits, labels)`; a scalar, or a dictionary of named
  terms whose sum is the loss (each is logged under its name).
"""

import os

# A user's own systems are found as `models.<name>` too, also in the processes that load audio.
__path__ += [folder for folder in os.environ.get("S2PEC_MODELS", "").split(os.pathsep) if folder]
