"""A whole run's configuration."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field, model_validator

from privfin.config.base import Section
from privfin.config.data import DataConfig, MissingnessConfig
from privfin.config.model import TRANSFORMER_HEADS, ModalityConfig, ModelConfig
from privfin.config.training import (
    CryptoConfig,
    EvaluationConfig,
    FederationConfig,
    PrivacyConfig,
    TrainingConfig,
)
from privfin.errors import nearest


def default_modalities() -> dict[str, ModalityConfig]:
    """Image and text, as the built-in run has them."""
    return {
        "image": ModalityConfig(encoder="scattering", kind="image"),
        "text": ModalityConfig(encoder="hashed-ngrams", kind="text"),
    }


class RunConfig(Section):
    """Everything that defines a run."""

    data: DataConfig = Field(default_factory=DataConfig)
    modalities: dict[str, ModalityConfig] = Field(default_factory=default_modalities)
    missingness: MissingnessConfig = Field(default_factory=MissingnessConfig)
    federation: FederationConfig = Field(default_factory=FederationConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    crypto: CryptoConfig = Field(default_factory=CryptoConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @model_validator(mode="after")
    def _names_agree(self) -> RunConfig:
        if not self.modalities:
            raise ValueError("at least one modality is needed")
        for name in self.modalities:
            if not name.isidentifier():
                raise ValueError(f"modality name '{name}' must be letters, digits and underscores")
            if "_to_" in f"_{name}_":
                # Imputers are named source_to_target.
                raise ValueError(f"modality name '{name}' must not contain the word 'to'")
        words = [name for name, m in self.modalities.items() if m.encoder == "transformer"]
        if words and self.model.width % TRANSFORMER_HEADS:
            raise ValueError(
                f"modality '{words[0]}' has a transformer of {TRANSFORMER_HEADS} heads: "
                f"model.width ({self.model.width}) must be a multiple of {TRANSFORMER_HEADS}"
            )
        missing = self.missingness
        for word in (*missing.train, *missing.test, *missing.unlabelled_without):
            if word not in self.modalities:
                hint = nearest(word, self.modalities)
                raise ValueError(f"missingness names an unknown modality '{word}'{hint}")
        if self.training.aggregation == "uncertainty" and self.model.imputer != "pfin":
            raise ValueError(
                "aggregation = 'uncertainty' needs imputer = 'pfin', the one that states a variance"
            )
        self._check_trust()
        self._check_secure_metrics()
        for site in self.federation.site:
            unknown = set(site.modalities) - set(self.modalities)
            if unknown:
                word = sorted(unknown)[0]
                hint = nearest(word, self.modalities)
                raise ValueError(f"site '{site.name}' names an unknown modality '{word}'{hint}")
        return self

    def _check_trust(self) -> None:
        """Refuse what joint steps do not do, rather than leave it without effect."""
        if self.privacy.trust == "local":
            return
        training = self.training
        refused = {
            "privacy.epsilon = inf (there is no noise to share)": not self.privacy.is_private,
            "training.momentum (use training.server.optimizer)": training.momentum > 0,
            "training.proximal": training.proximal > 0,
            "training.local_epochs": training.local_epochs is not None,
            "training.fine_tune_steps": training.fine_tune_steps > 0,
            "training.aggregation = 'uncertainty'": training.aggregation == "uncertainty",
            # Alone, a site's contribution has the noise of one share.
            "crypto.encryption = 'none', which would show single contributions": (
                self.crypto.encryption == "none" and not self.privacy.reproducible
            ),
            "crypto.encryption = 'ckks', whose single contributions any site could decrypt": (
                self.crypto.encryption == "ckks"
            ),
        }
        for what, is_set in refused.items():
            if is_set:
                raise ValueError(f"privacy.trust = 'shared' does not go with {what}")

    def _check_secure_metrics(self) -> None:
        """Refuse what would write down or show more than the sums over all sites."""
        if not self.evaluation.secure:
            return
        refused = {
            f"crypto.encryption = '{self.crypto.encryption}', which would show single counts": (
                self.crypto.encryption != "bfv"
            ),
            "evaluation.choose_round = 'validation', which reads pooled patients": (
                self.evaluation.choose_round == "validation"
            ),
            "training.fine_tune_steps, whose figures are of single sites": (
                self.training.fine_tune_steps > 0
            ),
        }
        for what, is_set in refused.items():
            if is_set:
                raise ValueError(f"evaluation.secure does not go with {what}")

    def without_paths(self) -> dict[str, Any]:
        """The content as JSON without places of files and folders: they differ between sites.

        What is in public weights is compared by its own digest, which the manifest holds.
        """
        content = self.model_dump(mode="json")
        content["data"]["root"] = content["model"]["retrieval"]["root"] = None
        for modality in content["modalities"].values():
            modality["weights"] = None
            if modality["encoder"].startswith("transformers:"):
                modality["encoder"] = "transformers"
        return content

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of :meth:`without_paths`."""
        content = self.without_paths()
        # Sorting must not hide the order of modalities: parameters are laid out in that order.
        content["modalities"] = list(content["modalities"].items())
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
