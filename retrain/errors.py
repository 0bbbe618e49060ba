"""What training refuses, each error named for the fact.

    TrainingRefused
    ├── TooFewRows        not enough rows, of all or of one class
    ├── ColumnMissing     a feature of the schema is not among the columns
    ├── ColumnRefused     a column has the wrong name, length, dtype or values
    ├── TargetRefused     the outcomes are not finite, or not those of the task
    ├── OneClass          every outcome is the same: there is nothing to tell apart
    ├── EstimatorRefused  the estimator does not take these rows
    ├── NotConvertible    the fitted estimator has no ONNX form
    └── ParityBroken      the ONNX form answers otherwise than the estimator did

When one of these is raised nothing was registered. (`retrain.evidence` has its own.)

    BundleRefused         there is no such evidence to bundle, or what is there is no bundle
"""

from __future__ import annotations


class TrainingRefused(Exception):
    """No version came out of this training; nothing was registered."""


class BundleRefused(Exception):
    """There is nothing to bundle, or what is there is no bundle; says why."""


class TooFewRows(TrainingRefused):
    """There are fewer rows than a model and its held-out check need."""

    def __init__(self, what: str, expected: int, got: int) -> None:
        self.what, self.expected, self.got = what, expected, got
        super().__init__(f"too few {what}: expected at least {expected}, got {got}")


class ColumnMissing(TrainingRefused):
    """A feature of the model's schema is not among the columns."""

    def __init__(self, column: str, got: tuple[str, ...]) -> None:
        self.column, self.got = column, got
        super().__init__(
            f"column '{column}' is missing: the schema names it, the columns are {', '.join(got) or 'none'}"
        )


class ColumnRefused(TrainingRefused):
    """A column is not what the schema says."""

    def __init__(self, column: str, expected: str, got: str) -> None:
        self.column, self.expected, self.got = column, expected, got
        super().__init__(f"column '{column}': expected {expected}, got {got}")


class TargetRefused(TrainingRefused):
    """The outcomes cannot be learned from as they are."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected, self.got = expected, got
        super().__init__(f"target: expected {expected}, got {got}")


class OneClass(TrainingRefused):
    """All rows have the same outcome."""

    def __init__(self, outcome: object, n_rows: int) -> None:
        self.outcome, self.n_rows = outcome, n_rows
        super().__init__(f"target: expected outcomes that differ, got {outcome!r} in all of {n_rows} rows")


class EstimatorRefused(TrainingRefused):
    """The estimator raised while it was fitted."""

    def __init__(self, estimator: str, why: str) -> None:
        self.estimator, self.why = estimator, why
        super().__init__(f"{estimator} cannot be fitted to these rows: {why}")


class NotConvertible(TrainingRefused):
    """There is no ONNX form of the fitted estimator."""

    def __init__(self, estimator: str, why: str) -> None:
        self.estimator, self.why = estimator, why
        super().__init__(f"{estimator} cannot be converted to ONNX: {why}")


class ParityBroken(TrainingRefused):
    """The ONNX form does not answer what the estimator answers."""

    def __init__(self, tolerance: float, largest: float, n_rows: int) -> None:
        self.tolerance, self.largest, self.n_rows = tolerance, largest, n_rows
        super().__init__(
            f"the ONNX form differs from the estimator by up to {largest:.3g} on {n_rows} rows: "
            f"expected at most {tolerance:g}"
        )
