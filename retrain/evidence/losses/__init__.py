"""From scores to losses, a file a family: what each version lost on each row, and what it could have lost at most."""

from retrain.evidence.losses.paired import PairedLosses, check, n_classes_of, paired_losses, probabilities_of

__all__ = ["PairedLosses", "check", "n_classes_of", "paired_losses", "probabilities_of"]
