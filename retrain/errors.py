"""What training refuses, each error named for the fact.

    TrainingRefused
    ├── TooFewRows        not enough rows, of all or of one class
    ├── ColumnMissing     a feature of the schema is not among the columns
    ├── ColumnRefused     a column has the wrong name, length, dtype or values
    ├── TargetRefused     the outcomes are not finite, or not those of the task
    ├── OneClass          every outcome is the same: there is nothing to tell apart
    ├── ExtraMissing      what the recipe or the settings name is not installed here
    ├── TaskUnlearnable   that estimator cannot learn this task, or this metric
    ├── ParameterUnknown  the estimator has no such parameter
    ├── FunctionRefused   the recipe's function is not there, raised, or gave something else than a fitted estimator
    ├── EstimatorRefused  the estimator does not take these rows
    ├── AnswersRefused    its answers are not finite, or not one for each class
    ├── SearchRefused     none of the candidates could be fitted and scored
    ├── OutputUnknown     the model's versions answer something that no training can make
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


class ExtraMissing(TrainingRefused):
    """A recipe or a setting names what is not installed here."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} is not installed here: install understudy[{extra}]")


class TaskUnlearnable(TrainingRefused):
    """The estimator cannot learn what the model's task, or its metric, asks for."""

    def __init__(self, estimator: str, what: str, instead: tuple[str, ...]) -> None:
        self.estimator, self.what, self.instead = estimator, what, instead
        super().__init__(f"{estimator} cannot learn {what}: choose one of {', '.join(instead)}")


class ParameterUnknown(TrainingRefused):
    """The estimator has no parameter of that name, or the recipe may not set it."""

    def __init__(self, estimator: str, parameter: str, known: tuple[str, ...]) -> None:
        self.estimator, self.parameter, self.known = estimator, parameter, known
        super().__init__(f"{estimator} has no parameter '{parameter}' to set: it has {', '.join(known)}")


class FunctionRefused(TrainingRefused):
    """The function that the recipe names is not there, raised, or gave no fitted estimator."""

    def __init__(self, function: str, why: str) -> None:
        self.function, self.why = function, why
        super().__init__(f"function {function}: {why}")


class AnswersRefused(TrainingRefused):
    """What was fitted answers, but not as a version may."""

    def __init__(self, estimator: str, expected: str, got: str) -> None:
        self.estimator, self.expected, self.got = estimator, expected, got
        super().__init__(f"the answers of {estimator}: expected {expected}, got {got}")


class SearchRefused(TrainingRefused):
    """Every candidate of a search was refused."""

    def __init__(self, n_candidates: int, first: str) -> None:
        self.n_candidates, self.first = n_candidates, first
        super().__init__(f"none of {n_candidates} candidates could be tried, the first for this: {first}")


class EstimatorRefused(TrainingRefused):
    """The estimator raised while it was fitted."""

    def __init__(self, estimator: str, why: str) -> None:
        self.estimator, self.why = estimator, why
        super().__init__(f"{estimator} cannot be fitted to these rows: {why}")


class OutputUnknown(TrainingRefused):
    """The versions of the model answer something besides score and label."""

    def __init__(self, output: str) -> None:
        self.output = output
        super().__init__(
            f"the model's versions answer '{output}', and what is trained here answers as they do: it can make the "
            "score and one label of the classes, and nothing else"
        )


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
