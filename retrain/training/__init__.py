"""From rows with outcomes to a version, and when to make one.

journal      what is learned from, as the journal has it at a stated time
rows         the same, or anybody's columns, checked and in order of time
fit          choose, hold out the latest part, fit, convert, prove
search       which settings, by validation in order of time; backends: where it is done
estimators   those that a recipe may name; functions: an operator's own, given a dataset; learned: fitted to rows
encoding     columns as the matrix that estimators learn from
convert      the ONNX form, and how far it is from the estimator; graph: the file around it
backtest     against the champion, on rows that neither has learned from
"""
