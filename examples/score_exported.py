"""Score a clip with an exported system, without its repository: python score_exported.py SYSTEM.onnx CLIP.wav"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile

path, clip = sys.argv[1:]
system = onnxruntime.InferenceSession(path)
about = system.get_modelmeta().custom_metadata_map
samples, rate = soundfile.read(clip, dtype="float32", always_2d=True)
if rate != int(about["sample_rate"]):
    sys.exit(f"{clip}: {rate} Hz, expected {about['sample_rate']} Hz; resample it")
utterance = samples.mean(axis=1)[None]
# As in training: a short clip is repeated, of a long one the first window is taken.
inputs = {"waveform": np.resize(utterance, (1, int(about["window_samples"])))}
if "feature_file" in about:
    feature = onnxruntime.InferenceSession(path.removesuffix(".onnx") + ".feature.onnx")
    inputs["feature"] = feature.run(None, {"utterance": utterance})[0]
score = system.run(None, inputs)[0].item()
print(f"score {score:.6f} ({about['polarity']})")
if "calibration" in about:
    calibration = json.loads(about["calibration"])
    print(f"llr {calibration['slope'] * score + calibration['offset']:.6f}")
