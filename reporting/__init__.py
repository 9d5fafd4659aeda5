"""The parts of `report.py`, in the order in which a report is made.

runs.py      what a run folder or a score file holds, as far as it can be read
clips.py     the worst errors of an evaluation; a trial's audio and spectrogram
markup.py    HTML from values: what is not markup already is escaped
svg.py       a chart: two axes, and what is drawn between them
charts.py    DET curves, histograms, t-DCF, training curves
tables.py    figures with their intervals, EER by attack, thresholds, differences of configs
page.py      the document: sections, page.css, page.js
"""
