"""From outcomes to decisions: judge challengers against the champion, train new ones, register them.

    evidence    is the challenger better? a pure function of pairs of answers
    drift       how far traffic, scores and outcomes have moved: it informs, and decides nothing
    train       rows with outcomes to a proven ONNX version

Stands on `registry`, and on the gateway's contract modules only. Only `train` imports scikit-learn and skl2onnx.
"""
