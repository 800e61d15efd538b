"""A run's configuration: what every option means, which values are valid, and how TOML is read.

The configuration is public. Everything in it may be sent to every site and stored with the run,
so nothing in it may be computed from patients.
"""

from privfin.config.data import (
    DataConfig,
    ManifestConfig,
    MissingnessConfig,
    PartConfig,
    SourceOptions,
)
from privfin.config.loading import load_config, parse_config, parse_override, set_key
from privfin.config.model import (
    BUILT_IN_ENCODERS,
    FROZEN_ENCODERS,
    TRANSFORMER_HEADS,
    FinConfig,
    ImputerKind,
    ModalityConfig,
    ModelConfig,
    RetrievalConfig,
)
from privfin.config.run import RunConfig
from privfin.config.training import (
    METRICS,
    CryptoConfig,
    Encryption,
    EvaluationConfig,
    FederationConfig,
    Metric,
    PrivacyConfig,
    ServerConfig,
    SiteConfig,
    TrainingConfig,
    UncertaintyConfig,
)

__all__ = [
    "BUILT_IN_ENCODERS",
    "FROZEN_ENCODERS",
    "METRICS",
    "TRANSFORMER_HEADS",
    "CryptoConfig",
    "DataConfig",
    "Encryption",
    "EvaluationConfig",
    "FederationConfig",
    "FinConfig",
    "ImputerKind",
    "ManifestConfig",
    "Metric",
    "MissingnessConfig",
    "ModalityConfig",
    "ModelConfig",
    "PartConfig",
    "PrivacyConfig",
    "RetrievalConfig",
    "RunConfig",
    "ServerConfig",
    "SiteConfig",
    "SourceOptions",
    "TrainingConfig",
    "UncertaintyConfig",
    "load_config",
    "parse_config",
    "parse_override",
    "set_key",
]
