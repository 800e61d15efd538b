"""Imputers: the feature of a missing modality from those that are there."""

from __future__ import annotations

from collections.abc import Mapping

from privfin.config import ModelConfig
from privfin.models.imputers.base import Estimate, PairImputer
from privfin.models.imputers.fin import AnyToAnyFin, FeatureImputationNetwork
from privfin.models.imputers.pfin import ProbabilisticFin
from privfin.models.imputers.retrieval import RetrievalSet
from privfin.models.imputers.sets import ANY, AnySet, Imputations, ImputerSet, PairSet, pair_name
from privfin.models.imputers.simple import (
    LinearImputer,
    MeanImputer,
    MlpImputer,
    PrototypeImputer,
)

__all__ = [
    "ANY",
    "Estimate",
    "Imputations",
    "ImputerSet",
    "PairImputer",
    "RetrievalSet",
    "make_imputers",
    "pair_name",
]


def make_imputers(config: ModelConfig, widths: Mapping[str, int]) -> ImputerSet:
    """The imputers that ``model.imputer`` names, between modalities of these feature widths."""
    fin = config.fin

    def make(source: int, target: int) -> PairImputer:
        if config.imputer == "fin":
            return FeatureImputationNetwork(source, target, config.width, fin)
        if config.imputer == "pfin":
            return ProbabilisticFin(
                source, target, config.width, fin.heads, fin.layers, config.hidden
            )
        if config.imputer == "mlp":
            return MlpImputer(source, target, config.hidden)
        if config.imputer == "linear":
            return LinearImputer(source, target)
        if config.imputer == "prototype":
            return PrototypeImputer(source, target, config.prototypes)
        return MeanImputer(target)

    if config.imputer in ("zero", "zero-fair", "none", "late") or len(widths) < 2:
        return ImputerSet()
    if config.imputer == "retrieval":
        return RetrievalSet(widths, config.retrieval)
    if config.imputer == "fin-any":
        return AnySet(AnyToAnyFin(widths, config.width, fin))
    return PairSet(widths, make)
