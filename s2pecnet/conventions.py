"""Numbers and words that all of the framework agrees on."""

# Every system takes mono waveforms at this rate, in Hz.
SAMPLE_RATE = 16_000
# Samples of a crop where a config names no other length (released AASIST: about 4 s).
CROP = 64_600
# Ten minutes. What a system does with a crop takes several hundred times its memory.
LONGEST_CROP = 600 * SAMPLE_RATE

# The classes of a trial as published protocols and score files spell them; labels are 1 and 0.
KEYS = ("bonafide", "spoof")
# Other words for them that lists, tables and folders have.
LABELS = {
    **dict.fromkeys(("bonafide", "bona-fide", "real", "genuine", "human"), "bonafide"),
    **dict.fromkeys(("spoof", "spoofed", "fake", "synthetic", "deepfake"), "spoof"),
}
SPLITS = ("train", "dev", "eval")
# Parts of the evaluation trials of ASVspoof2021, as its keys name them.
SUBSETS = ("eval", "progress", "hidden")
# In a score file, the score of a trial whose audio could not be used.
UNSCORED = "unscored"
# Bytes of a field of a score file, so of an utterance's name too.
LONGEST_FIELD = 200
# Endings of files that hold audio and say their rate; libsndfile or PyAV reads them.
AUDIO_ENDINGS = frozenset(
    (
        *(".3gp", ".8svx", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avr", ".awb"),
        *(".bwf", ".caf", ".dff", ".dsf", ".eac3", ".flac", ".flv", ".ircam", ".m4a", ".m4b", ".mka", ".mkv", ".mov"),
        *(".mp2", ".mp3", ".mp4", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".paf", ".pvf", ".rf64", ".sds", ".sf"),
        *(".snd", ".sph", ".spx", ".svx", ".tta", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wv"),
        *(".wve", ".xi"),
    )
)
# Audio that is not read: samples without a header, and what neither decoder knows.
OTHER_AUDIO = frozenset((".pcm", ".raw", ".silk", ".slk"))
POLARITY = "higher = bona fide"

DEFAULT_SEED = 1234
DEFAULT_OUTPUT = "./exp_result"
EVAL_OUTPUT = "eval_scores_using_best_dev_model.txt"

# What a run calls its files; `runs.folder.RunFolder` gives their paths.
RUN_FILES = {
    "config": "config.conf",
    "weights": "weights",
    "metrics": "metrics",
    "states": "state",
    "log": "metric_log.txt",
    "results": "results.json",
    "plots": "figures.png",
    "report": "report.html",
    "calibration": "calibration.json",
    "dev_scores": "dev_scores.txt",
    "dev_summary": "t-DCF_EER_dev.txt",
    "eval_summary": "t-DCF_EER.txt",
    "eval_swa_summary": "t-DCF_EER_swa.txt",
    "nonfinite": "nonfinite_batches.json",
    **{f"skipped_{split}": f"skipped_audio_{split}.txt" for split in SPLITS},
}
