"""What a version that is trained here answers: as the versions before it do, so that callers see one model.

    score     the probability of the second class, those of all classes, or the number, under the name it has
    label     the most probable class, where the versions answer one

Whatever else versions answer nobody can make of an estimator. A model without versions gets names of ours.
"""

from __future__ import annotations

from msgspec import Struct

from registry.types import OutputTensor, ScoreColumn, Signature, Task
from retrain import errors


class Answers(Struct, frozen=True):
    """The outputs, in order, and which of them is compared with the outcome."""

    outputs: tuple[OutputTensor, ...]
    score: ScoreColumn

    @property
    def written_score(self) -> str:
        """The score as `register --score` writes it."""
        return self.score.output if self.score.column is None else f"{self.score.output}:{self.score.column}"

    def is_score(self, output: OutputTensor) -> bool:
        """Whether this is the output that is compared; every other one is a label."""
        return output.name == self.score.output


def answers_of(task: Task, classes: tuple[int | str, ...], like: Signature | None) -> Answers:
    """What a version of these classes (none in regression) is to answer; `like`: a version of the model.

    Raises:
        TargetRefused: the versions have other classes.
        OutputUnknown: they answer what no training can make.
    """
    if like is None:
        if task == "regression":
            return Answers((OutputTensor("prediction", "float32"),), ScoreColumn("prediction"))
        label = OutputTensor("label", "string" if isinstance(classes[0], str) else "int64")
        probabilities = OutputTensor("probabilities", "float32", len(classes))
        return Answers((label, probabilities), ScoreColumn("probabilities", 1 if task == "binary" else None))
    if like.classes != classes:
        raise errors.TargetRefused(f"the classes of the model's versions, {list(like.classes)}", f"{list(classes)}")
    answers = Answers(like.outputs, like.score)
    labels = [output for output in answers.outputs if not answers.is_score(output)]
    kinds = {"string" if isinstance(name, str) else "int64" for name in classes}
    for output in answers.outputs:
        if answers.is_score(output):
            known = output.width in (None, len(classes))
        else:
            known = len(labels) == 1 and output.width is None and {output.dtype} == kinds
        if not known:
            raise errors.OutputUnknown(output.name)
    return answers
