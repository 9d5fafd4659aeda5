"""Augmentation of training utterances: what the steps of a config's `augment` do to a waveform."""
