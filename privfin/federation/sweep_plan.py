"""What a sweep is: what it varies, what must stay the same, and how it is read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privfin.config import ImputerKind, RunConfig, parse_config
from privfin.errors import ConfigError, UserInputError
from privfin.federation.plan import check_without_data
from privfin.runs import option_differences

FORMAT = 1
_VARIED = ("privacy.epsilon", "model.imputer", "training.seed")


@dataclass(frozen=True)
class Combination:
    """One run of a sweep."""

    epsilon: float
    imputer: ImputerKind
    seed: int

    @property
    def name(self) -> str:
        """The name of its run directory."""
        return f"{self.imputer}-eps{self.epsilon:.12g}-seed{self.seed}"

    @property
    def words(self) -> str:
        """The same for people."""
        return f"{self.imputer}, epsilon {self.epsilon:g}, seed {self.seed}"


@dataclass(frozen=True)
class Sweep:
    """What is varied, and the configuration of everything else."""

    base: RunConfig
    epsilons: tuple[float, ...]
    imputers: tuple[ImputerKind, ...]
    seeds: tuple[int, ...]

    def combinations(self) -> list[Combination]:
        """All runs, those with the same seed together: they share their prepared data."""
        return [
            Combination(epsilon, imputer, seed)
            for seed in self.seeds
            for imputer in self.imputers
            for epsilon in self.epsilons
        ]

    def config(self, one: Combination) -> RunConfig:
        """The configuration of one run.

        Raises:
            ConfigError: it is not valid, say an imputer that needs an option.
        """
        content = self.base.model_dump(mode="json")
        content["privacy"]["epsilon"] = one.epsilon
        content["model"]["imputer"] = one.imputer
        content["training"]["seed"] = one.seed
        return parse_config(content, f"the run {one.name}")

    def to_dict(self) -> dict[str, Any]:
        """What ``sweep.json`` says of it, without the folder of the data."""
        content = self.base.model_dump(mode="json")
        content["data"]["root"] = content["model"]["retrieval"]["root"] = None
        return {
            "config": content,
            "epsilons": list(self.epsilons),
            "imputers": list(self.imputers),
            "seeds": list(self.seeds),
        }


def check_sweep(sweep: Sweep) -> None:
    """Refuse, before any data is read, what the configurations alone show to be impossible.

    Raises:
        ConfigError, PlanError: naming what is wrong.
    """
    for one in sweep.combinations():
        config = sweep.config(one)
        if one.seed == sweep.seeds[0]:  # a plan without data does not depend on the seed
            check_without_data(config)


def check_same_sweep(sweep: Sweep, folder: Path) -> None:
    """Refuse a folder that is not this sweep's. More values of what is varied are welcome.

    Raises:
        ConfigError: naming what changed.
        UserInputError: the folder holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserInputError(f"{folder} is a file: choose another --out")
    if not folder.exists() or {path.name for path in folder.iterdir()} <= {".lock"}:
        return
    before = read_sweep(folder)
    for key, old, new in option_differences(before.base, sweep.base):
        if key not in _VARIED:
            raise ConfigError(
                f"the configuration changed since {folder} was started: {key} was {old}, is now "
                f"{new}; go on with the same options, or choose another --out"
            )
    kept: list[tuple[str, Sequence[Any], Sequence[Any]]] = [
        ("epsilon", before.epsilons, sweep.epsilons),
        ("imputer", before.imputers, sweep.imputers),
        ("seed", before.seeds, sweep.seeds),
    ]
    for what, old, new in kept:
        gone = [str(value) for value in old if value not in new]
        if gone:
            raise ConfigError(
                f"{what} {', '.join(gone)} belongs to the sweep in {folder} and is not asked for "
                "any more: repeat the earlier command (more values may be added), or choose "
                "another --out"
            )


def read_sweep(folder: Path) -> Sweep:
    """The sweep that a folder was started with.

    Raises:
        UserInputError: it holds no sweep, or one of another format.
    """
    file = folder / "sweep.json"
    if not file.is_file():
        raise UserInputError(f"{folder} exists and is not a sweep: choose another --out")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise UserInputError(f"{file} has format {content['format']}, expected {FORMAT}")
        return Sweep(
            parse_config(content["config"], str(file)),
            tuple(float(value) for value in content["epsilons"]),
            tuple(content["imputers"]),
            tuple(int(value) for value in content["seeds"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserInputError(f"{file} cannot be read as a sweep") from error
