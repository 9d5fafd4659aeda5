"""What the self-supervised systems share: a front end, a back end, and how their weights are called elsewhere."""

from collections.abc import Mapping

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from s2pecnet.config.options import Int
from s2pecnet.conventions import CROP, LONGEST_CROP
from s2pecnet.errors import InputError
from s2pecnet.systems.fairseq import renamed
from s2pecnet.systems.front_end import FrontEnd, FrontEndOptions, LayerSum

# What stands before a name in the published files; the first where they come from a data-parallel wrapper.
WRAPPER, FRONT_END = "module.", "ssl_model.model."


@dataclass(frozen=True)
class SelfSupervisedOptions:
    """What every self-supervised system reads of its `model_config`."""

    front_end: FrontEndOptions = Field(description="the pre-trained model and how it is used")
    nb_samp: Int = Field(default=CROP, ge=400, le=LONGEST_CROP, description="samples of a crop")


class SelfSupervisedSystem(nn.Module):
    """A front end and a back end: waveform (B, samples) -> (embedding, logits (B, 2)). A base class.

    A system's `__init__` calls this one and then sets `back_end`, a module that takes (B, frames, width), or (B,
    layers, frames, width) with `takes_layers`, and returns (embedding, logits).

    Attributes:
        published_prefix: what the published files put before the names of the back end.
        takes_outputs: `forward` takes kept outputs of the front end too, (B, frames, width) or (B, layers, frames,
            width), see `data.outputs`.
    """

    published_prefix = ""
    takes_outputs = False
    back_end: nn.Module

    def __init__(self, options: SelfSupervisedOptions, takes_layers: bool = False):
        super().__init__()
        self.front_end = FrontEnd(options.front_end)
        if takes_layers and not self.front_end.picked:
            raise InputError('model_config.front_end.layers: this back end takes layers; expected "all" or a list')
        self.layer_sum: nn.Module = nn.Identity()
        if self.front_end.picked and not takes_layers:
            self.layer_sum = LayerSum(len(self.front_end.picked))
        self.frames = self.front_end.frames(options.nb_samp)
        config = self.front_end.model.config
        for axis, length in (("time", self.frames), ("feature", self.front_end.width)):
            span = getattr(config, f"mask_{axis}_length", 0)
            if getattr(config, f"mask_{axis}_prob", 0) and span >= length and not self.front_end.frozen:
                raise InputError(
                    f"model_config.front_end.settings.mask_{axis}_prob: masks {span} in a row of {length} "
                    f"{'frames (nb_samp)' if axis == 'time' else 'features'}; set a shorter mask_{axis}_length"
                )

    def forward(self, x: Tensor, Freq_aug: bool = False) -> tuple[Tensor, Tensor]:
        """x float32 (B, samples) at 16 kHz."""
        if Freq_aug:
            raise InputError("freq_aug masks sinc filters, and this system has none; leave it out")
        outputs = x.float() if self.takes_outputs and x.dim() > 2 else self.front_end(x)
        embedding, logits = self.back_end(self.layer_sum(outputs))
        return embedding, logits

    def from_published(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights under the names of this system, where they have those of the published files; others as they are.

        Accepted and left out, by name: what only the pre-training of the front end used.
        """
        wrapped = all(name.startswith(WRAPPER) for name in state)
        names = {name.removeprefix(WRAPPER) if wrapped else name: name for name in state}
        if not any(name.startswith(FRONT_END) for name in names):
            return state
        front_end = renamed({name.removeprefix(FRONT_END): state[key] for name, key in names.items()
                             if name.startswith(FRONT_END)})  # fmt: skip
        found = {f"front_end.model.{name}": tensor for name, tensor in front_end.items()}
        for name, key in names.items():
            if not name.startswith(FRONT_END):
                known = name.startswith(self.published_prefix)
                own = f"back_end.{name.removeprefix(self.published_prefix)}" if known else name
                found[own] = state[key]
        return found
