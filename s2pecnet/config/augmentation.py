"""Steps of augmentation, as a config lists them under `augment`: their options; what they do is in `s2pecnet.augment`.

Ranges are [lowest, highest]; a value is drawn evenly between them for each utterance.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, core_schema

from s2pecnet.config.options import NUMBER, Float, Int, Text


class Between:
    """Of a range: both ends lie between two limits, the first not above the second."""

    def __init__(self, low: float, high: float, kind: str = "number"):
        self.low, self.high, self.kind = low, high, kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        item = {"type": self.kind, "minimum": self.low, "maximum": self.high}
        words = f"two {self.kind}s [lowest, highest] from {self.low:,g} to {self.high:,g}"
        return {"type": "array", "items": item, "minItems": 2, "maxItems": 2, "x-expected": words}

    def check(self, value: tuple[float, float]) -> tuple[float, float]:
        """The range, if it is one."""
        if not self.low <= value[0] <= value[1] <= self.high:
            raise ValueError("not a range")
        return value


Probability = Annotated[float, Field(ge=0, le=1), NUMBER]
Decibels = Annotated[tuple[Float, Float], Between(-100, 100)]
Share = Annotated[tuple[Float, Float], Between(0, 1)]
Speed = Annotated[tuple[Float, Float], Between(0.5, 2)]
Kbits = Annotated[tuple[Float, Float], Between(1, 512)]
Clips = Annotated[tuple[Int, Int], Between(1, 20, "integer")]
TelephoneRate = Annotated[int, Field(ge=4000, le=15999), NUMBER]
CodecName = Literal["mp3", "aac", "opus", "vorbis", "g722", "alaw", "mulaw", "gsm", "amr"]
CODECS: tuple[CodecName, ...] = get_args(CodecName)
# What each step has.
CHANCE = "share of the utterances that the step changes"


@dataclass(frozen=True)
class RawBoost:
    """Convolutive, impulsive and stationary noise (RawBoost). Parameters have the released names and defaults."""

    step: Literal["rawboost"]
    probability: Probability = Field(1.0, description=CHANCE)
    algorithm: Int = Field(
        5,
        ge=1,
        le=8,
        description="1 convolutive, 2 impulsive, 3 stationary noise; 4 is 1, 2, 3 in a row, 5 is 1, 2, 6 is 1, 3, 7 is "
        "2, 3; 8 is the sum of 1 and 2",
    )
    N_f: Int = Field(5, ge=1, le=20, description="highest power of the waveform in algorithm 1")
    nBands: Int = Field(5, ge=1, le=50, description="notches of a filter")
    minF: Float = Field(20.0, ge=0, le=8000, description="lowest centre of a notch, Hz")
    maxF: Float = Field(8000.0, ge=0, le=8000, description="highest centre of a notch, Hz")
    minBW: Float = Field(100.0, gt=0, le=8000, description="least width of a notch, Hz")
    maxBW: Float = Field(1000.0, gt=0, le=8000, description="largest width of a notch, Hz")
    minCoeff: Float = Field(10.0, ge=1, le=1000, description="fewest taps of a notch")
    maxCoeff: Float = Field(100.0, ge=1, le=1000, description="most taps of a notch")
    minG: Float = Field(0.0, ge=-100, le=100, description="least gain of the linear part and of algorithm 3, dB")
    maxG: Float = Field(0.0, ge=-100, le=100, description="largest gain of the linear part and of algorithm 3, dB")
    minBiasLinNonLin: Float = Field(
        5.0, ge=-100, le=100, description="the higher powers lie so far below the linear part, dB: least"
    )
    maxBiasLinNonLin: Float = Field(20.0, ge=-100, le=100, description="the same: most")
    P: Float = Field(10.0, ge=0, le=100, description="at most so many per cent of the samples have impulses")
    g_sd: Float = Field(2.0, ge=0, le=1000, description="gain of the impulses")
    SNRmin: Float = Field(10.0, ge=-100, le=100, description="least signal-to-noise ratio of algorithm 3, dB")
    SNRmax: Float = Field(40.0, ge=-100, le=100, description="largest signal-to-noise ratio of algorithm 3, dB")


@dataclass(frozen=True)
class Noise:
    """Recordings of a folder (MUSAN or a part of it), added at a signal-to-noise ratio."""

    step: Literal["noise"]
    folder: Text = Field(description="folder of audio files, searched with those below it")
    snr: Decibels = Field((5.0, 20.0), description="signal-to-noise ratio, dB")
    clips: Clips = Field((1, 1), description="how many recordings are added up; several of speech are babble")
    probability: Probability = Field(1.0, description=CHANCE)


@dataclass(frozen=True)
class Room:
    """The response of a room out of a folder (RIRS_NOISES); direct sound and level stay where they are."""

    step: Literal["room"]
    folder: Text = Field(description="folder of impulse responses, searched with those below it")
    probability: Probability = Field(1.0, description=CHANCE)


@dataclass(frozen=True)
class Codec:
    """Coded and decoded again, by one of several codecs at one of its bit rates; the codec's delay is taken out."""

    step: Literal["codec"]
    codecs: Annotated[tuple[CodecName, ...], Field(min_length=1)] = Field(CODECS, description="one is drawn")
    bitrate: Kbits = Field(
        (1.0, 512.0), description="kbit/s; one of the codec's own rates between these, or the nearest"
    )
    probability: Probability = Field(1.0, description=CHANCE)


@dataclass(frozen=True)
class Bandwidth:
    """Resampled to a lower rate, as a telephone has it, and back."""

    step: Literal["bandwidth"]
    rates: Annotated[tuple[TelephoneRate, ...], Field(min_length=1)] = Field(
        (8000,), description="sample rates, Hz; one is drawn"
    )
    probability: Probability = Field(1.0, description=CHANCE)


@dataclass(frozen=True)
class SpeedChange:
    """Played faster or slower, pitch and length with it."""

    step: Literal["speed"]
    factor: Speed = Field((0.9, 1.1), description="factor, in steps of 0.01; above 1 is faster and shorter")
    probability: Probability = Field(1.0, description=CHANCE)


@dataclass(frozen=True)
class Gain:
    """Louder or quieter."""

    step: Literal["gain"]
    gain: Decibels = Field((-10.0, 10.0), description="gain, dB; nothing is limited to [-1, 1]")
    probability: Probability = Field(1.0, description=CHANCE)


@dataclass(frozen=True)
class Clip:
    """Cut off above a share of the peak."""

    step: Literal["clip"]
    level: Share = Field((0.2, 0.8), description="where it is cut off, in parts of the peak")
    probability: Probability = Field(1.0, description=CHANCE)


@dataclass(frozen=True)
class Trim:
    """Silence at both ends cut off; what would leave less than 0.1 s stays whole."""

    step: Literal["trim"]
    below: Decibels = Field(
        (-40.0, -30.0), description="frames of 20 ms so far below the loudest one are silence, dB (negative)"
    )
    probability: Probability = Field(1.0, description=CHANCE)


Step = RawBoost | Noise | Room | Codec | Bandwidth | SpeedChange | Gain | Clip | Trim
STEPS: dict[str, type] = {get_args(cls.__annotations__["step"])[0]: cls for cls in get_args(Step)}
