"""Membership scores: pure functions on arrays of what models say of records.

Every score is larger for members. None takes the membership of the target's records: only that of
shadow models, whose coins the attacker threw.
"""

from attacks.scores.covariance import lira_covariance
from attacks.scores.likelihood import lira, lira_per_label
from attacks.scores.modalities import ModalitySignals, modality_signals, retrieval_rank, strata
from attacks.scores.quantile import gaussian_margin, quantile_margin
from attacks.scores.relative import rmia, rmia_log_ratio, tune_rmia
from attacks.scores.shadows import leave_one_out
from attacks.scores.signals import (
    class_log_probability,
    class_logit,
    joint_log_probability,
    joint_logit,
    label_losses,
    label_signals,
    mean_loss,
)
from attacks.scores.stacked import stacked
from attacks.scores.thresholds import (
    calibrated_loss,
    entropy,
    label_entropy,
    label_modified_entropy,
    loss,
    modified_entropy,
)

__all__ = [
    "ModalitySignals",
    "calibrated_loss",
    "class_log_probability",
    "class_logit",
    "entropy",
    "gaussian_margin",
    "joint_log_probability",
    "joint_logit",
    "label_entropy",
    "label_losses",
    "label_modified_entropy",
    "label_signals",
    "leave_one_out",
    "lira",
    "lira_covariance",
    "lira_per_label",
    "loss",
    "mean_loss",
    "modality_signals",
    "modified_entropy",
    "quantile_margin",
    "retrieval_rank",
    "rmia",
    "rmia_log_ratio",
    "stacked",
    "strata",
    "tune_rmia",
]
