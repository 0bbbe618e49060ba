"""What the evidence refuses to judge, each error named for the fact.

    EvidenceError (a ValueError)
    ├── InvalidRule        a constant of the rule is impossible
    ├── MismatchedPairs    the columns do not belong together: lengths, shapes, dtypes
    ├── ImpossibleValue    a row holds an outcome or a champion's score that cannot be
    ├── UnusedColumn       a column is given that this rule would have to ignore
    ├── TooManyNames       more segments or sources than sums are kept of
    ├── MissingPrior       an answer is missing and the rule does not say what stands in for it
    └── MismatchedSums     sums that were made under different rules, or of different buckets

Nothing here changes anything: after an error the caller's arrays and sums are as they were.
"""


class EvidenceError(ValueError):
    """The pairs, the rule or the sums cannot be judged as given."""


class InvalidRule(EvidenceError):
    """A constant of the rule is impossible."""

    def __init__(self, field: str, expected: str, got: object) -> None:
        self.field, self.expected, self.got = field, expected, got
        super().__init__(f"rule.{field}: expected {expected}, got {got!r}")


class MismatchedPairs(EvidenceError):
    """A column of the pairs has another length, shape or dtype than it must."""

    def __init__(self, column: str, expected: str, got: str) -> None:
        self.column, self.expected, self.got = column, expected, got
        super().__init__(f"pairs.{column}: expected {expected}, got {got}")


class ImpossibleValue(EvidenceError):
    """A row holds a value that its column cannot have; `row` is the first such row."""

    def __init__(self, column: str, expected: str, got: object, row: int) -> None:
        self.column, self.expected, self.got, self.row = column, expected, got, row
        super().__init__(f"pairs.{column}: expected {expected}, got {got} in row {row}")


class UnusedColumn(EvidenceError):
    """A column is given that this rule would have to ignore."""

    def __init__(self, column: str, loss: str) -> None:
        self.column, self.loss = column, loss
        super().__init__(f"pairs.{column}: expected None, because {loss} does not use it, got a column")


class TooManyNames(EvidenceError):
    """A column of names is none: it holds more of them than sums can be kept of."""

    def __init__(self, column: str, expected: int, got: int) -> None:
        self.column, self.expected, self.got = column, expected, got
        super().__init__(f"pairs.{column}: expected at most {expected} names in a bucket, got {got}")


class MissingPrior(EvidenceError):
    """The challenger failed on some rows and the rule holds no prior prediction to take its place."""

    def __init__(self, n_failed: int) -> None:
        self.n_failed = n_failed
        super().__init__(
            f"rule.prior: expected a prediction for the {n_failed} rows that the challenger failed on, got None"
        )


class MismatchedSums(EvidenceError):
    """Sums of different buckets, or made under different rules, cannot be added."""

    def __init__(self, what: str, expected: object, got: object) -> None:
        self.what, self.expected, self.got = what, expected, got
        super().__init__(f"sums: expected {what} {expected}, got {got}")
