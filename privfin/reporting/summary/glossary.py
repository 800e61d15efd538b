"""What the words of a report mean, in one plain sentence each."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """A word and its meaning."""

    term: str
    meaning: str


GLOSSARY: tuple[Term, ...] = (
    Term(
        "accountant",
        "The program that calculates epsilon from the noise, the sampling rate and the steps.",
    ),
    Term(
        "adjacency",
        "Which two data sets must be hard to tell apart: here, one with and one without a patient.",
    ),
    Term(
        "assumption",
        "Something that the guarantee rests on: checked by the program, declared by somebody, or "
        "unknown.",
    ),
    Term(
        "attribute inference",
        "An attack that guesses one part of a patient's record from another part and the model.",
    ),
    Term(
        "AUROC",
        "The chance that a score ranks a random positive above a random negative: 0.5 is guessing, "
        "1 is always right.",
    ),
    Term(
        "availability cell",
        "Held-out records with certain modalities, such as image only, all others taken away.",
    ),
    Term(
        "average precision",
        "How few false finds are among the highest scores, averaged over all thresholds; guessing "
        "gives the share of positives.",
    ),
    Term(
        "BFV",
        "An encryption of whole numbers under which the coordinator can add without reading.",
    ),
    Term("Brier score", "The mean squared distance of a predicted chance from what happened."),
    Term("budget", "How much epsilon may be spent on one population over all runs."),
    Term(
        "calibration error",
        "How far predicted chances are from how often the finding was there; 0 is best.",
    ),
    Term(
        "canary",
        "An invented patient that is put into training or not by coin, so that a test can be "
        "counted exactly.",
    ),
    Term("cap", "The largest epsilon that an officer allows for a population."),
    Term(
        "ceiling",
        "The largest epsilon that an audit of this size could have shown, had the attack always "
        "been right.",
    ),
    Term("ciphertext", "An encrypted message, which without the key looks like noise."),
    Term(
        "CKKS",
        "An encryption of approximate numbers; here it has no masks and is weaker than BFV.",
    ),
    Term("clip norm", "The limit on how far one patient can move the model in one step."),
    Term(
        "confidence",
        "How often intervals that are made in this way contain the true value.",
    ),
    Term(
        "contradiction",
        "An attack showed an epsilon above the promised one, so the promise or the program is "
        "wrong.",
    ),
    Term(
        "coordinator",
        "The party that adds up the sites' updates and sends the sum back; it holds no key.",
    ),
    Term(
        "delta",
        "A small chance that is left out of the promise of epsilon; it must be far below one over "
        "the number of patients.",
    ),
    Term(
        "differential privacy",
        "A promise that what is released would be nearly as likely if any one patient had not "
        "taken part.",
    ),
    Term(
        "DP-SGD",
        "Training in which each patient's part of a step is limited and random noise is added.",
    ),
    Term(
        "epsilon",
        "How much more likely any outcome can become through one patient: at most e to the power "
        "of epsilon times; it means something only with delta and the protected unit.",
    ),
    Term("false alarm", "A patient who was not in training and whom an attack takes for a member."),
    Term(
        "federated learning",
        "Training one model at several sites that send updates and keep their records.",
    ),
    Term(
        "gradient inversion",
        "An attack that tries to rebuild a record from an update.",
    ),
    Term(
        "held-out patients",
        "Patients that the model was not trained on, kept for measuring how good it is.",
    ),
    Term(
        "imputed",
        "Filled in by the model because a patient lacks that modality, not measured.",
    ),
    Term(
        "ledger",
        "A chained list of what each population was charged, by which a run is refused when the "
        "budget is used up.",
    ),
    Term(
        "mask",
        "Random numbers that two sites agree on and that cancel in the sum, so that a single "
        "update stays hidden even when decrypted.",
    ),
    Term("member", "A patient whose records were used in training."),
    Term(
        "membership inference",
        "An attack that guesses whether a patient's records were used in training.",
    ),
    Term("modality", "A kind of data about a patient, such as an image or a text."),
    Term(
        "mu",
        "One number for a whole trade-off curve: how far apart two normal distributions lie that "
        "are as easy to tell apart as with and without a patient.",
    ),
    Term(
        "noise multiplier",
        "How large the added noise is, as a multiple of the clip norm.",
    ),
    Term(
        "observer",
        "Somebody who sees part of what a run gives out, such as the final model or every sum.",
    ),
    Term(
        "odds",
        "How often somebody who starts at 50:50 can be right about one patient: 74:26 is right 74 "
        "times in 100.",
    ),
    Term(
        "outsider",
        "Somebody who has the final model and nothing else.",
    ),
    Term(
        "patient-level",
        "A promise for a patient with all records together, not for a single image or text.",
    ),
    Term(
        "Poisson sampling",
        "Drawing each patient for a step by an own coin, independently of all others.",
    ),
    Term("population", "The people whom a budget in the ledger is about, in whichever data sets."),
    Term(
        "risk rule",
        "A limit on the success of an attack that somebody set before the audit.",
    ),
    Term("ROC curve", "Members found against false alarms, for every threshold of an attack."),
    Term("sampling rate", "The chance of a patient to be drawn in one step."),
    Term(
        "secure sum",
        "Adding the sites' encrypted updates so that only the sum can be read.",
    ),
    Term(
        "shadow model",
        "A model trained like the one under attack, so that the attacker learns what members look "
        "like.",
    ),
    Term("site", "A hospital or other place that keeps its records and trains on them."),
    Term(
        "small cell",
        "A count of 1 to 10 people, which is not shown in a public copy.",
    ),
    Term(
        "test mode",
        "A run whose noise anybody can calculate, for tests of the program: it is not private.",
    ),
    Term(
        "trade-off curve",
        "The most members that any test can find, for every rate of false alarms.",
    ),
    Term("update", "What a site's training changed in the model, sent to be added up."),
)
"""By term, in alphabetical order."""
