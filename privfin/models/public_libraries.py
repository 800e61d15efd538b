"""Imports timm and transformers when an encoder needs them, with everything that downloads off."""

from __future__ import annotations

import importlib
import os
import re
from types import ModuleType
from typing import Any

import torch

from privfin.errors import ConfigError

#: Read by those libraries when they are imported.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
}
_NO_OPERATOR = re.compile(r"operator torchvision::(\w+) does not exist")
#: Keeps the operators that :func:`_import_torchvision` declares.
_declared: list[Any] = []


def import_library(name: str) -> ModuleType:
    """Import ``timm`` or ``transformers``, offline.

    Raises:
        ConfigError: it is not installed; the line names the extra to install.
    """
    os.environ.update(_OFFLINE)
    try:
        _import_torchvision()
        library = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"a {name} encoder needs the extra '{name}' ({error}): "
            f"pip install 'privfin[{name}]', then try again"
        ) from error
    if name == "transformers":  # its bars and hints are not for our users
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
    return library


def _import_torchvision() -> None:
    """Import torchvision, which both libraries import, even beside a torch of another build.

    Its compiled operators load only with the very build (CPU, CUDA) that they were made for, and
    its import then stops at the first that is missing. Encoders use none of them, so they are
    declared here without code: calling one still fails.
    """
    for _ in range(8):
        try:
            importlib.import_module("torchvision")
        except ModuleNotFoundError:
            return  # transformers does without it; timm says so itself
        except RuntimeError as error:
            missing = _NO_OPERATOR.search(str(error))
            if missing is None:
                raise ConfigError(
                    f"torchvision does not fit torch {torch.__version__} ({error}): install both "
                    "of one release"
                ) from error
            # torch.library has no annotations.
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(  # type: ignore[no-untyped-call]
                f"{missing[1]}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
            _declared.append(library)
        else:
            return
