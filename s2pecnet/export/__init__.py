"""Systems as ONNX or torch.export files: graphs and formats (`graphs`), and the check of what was written (`check`)."""

# What each format needs beside requirements.txt.
PACKAGES: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
# The largest difference from the checkpoint's scores that is accepted.
TOLERANCE = 1e-4
