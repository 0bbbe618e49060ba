"""From rows with outcomes to a version, and when to make one.

journal      what is learned from, as the journal has it at a stated time
rows         the same, or anybody's columns, checked and in order of time
fit          fit, hold out the latest part, convert, prove
convert      the ONNX form, and how far it is from the estimator
backtest     against the champion, on rows that neither has learned from
"""
