"""Text encoders of transformers, from a local folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from privfin.errors import ConfigError
from privfin.models.public_libraries import import_library
from privfin.models.weights import check_folder

#: Nothing is fetched, and no code that lies in the folder is run.
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_PROBLEMS = (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, TypeError)


def width(folder: str) -> int:
    """Numbers in one feature, from config.json alone."""
    return int(_configuration(folder).hidden_size)


def load(folder: str, length: int) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    """The network with its weights, and the function from one text to its feature.

    At most ``length`` tokens are read, with those that the tokenizer adds (such as [CLS]). The
    feature is the mean of the last layer over them: without fine-tuning a mean serves better than
    the first token alone (Reimers and Gurevych 2019, "Sentence-BERT", table 6).
    """
    settings = _configuration(folder)
    library = import_library("transformers")
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(folder, **_LOCAL)
        network, report = library.AutoModel.from_pretrained(
            folder,
            config=settings,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
            **_LOCAL,
        )
    except _PROBLEMS as error:
        raise ConfigError(_line(folder, error)) from error
    # A pooler on top of the first token is not used; anything else would be left at random.
    lost = [k for k in report["missing_keys"] if not k.startswith("pooler.")]
    lost += [str(k) for k in report["mismatched_keys"]]
    if lost:
        raise ConfigError(f"weights in {folder} do not fit its config.json: {sorted(lost)[0]}")
    longest = getattr(settings, "max_position_embeddings", None) or length
    if length > longest:
        raise ConfigError(f"{folder} reads {longest} tokens at most: lower length ({length})")
    network.eval()

    def encode_one(text: str) -> Tensor:
        tokens = tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
        ids = tokens["input_ids"].long()
        if ids.shape[1] == 0:  # a tokenizer that adds nothing to an empty text
            return torch.zeros(int(settings.hidden_size))
        found: Tensor = network(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
        return found[0].mean(dim=0)

    return network, encode_one


@lru_cache(maxsize=8)
def _configuration(folder: str) -> Any:
    check_folder(folder)
    library = import_library("transformers")
    try:
        settings = library.AutoConfig.from_pretrained(folder, **_LOCAL)
        if settings.is_encoder_decoder or not settings.hidden_size:
            raise ValueError("only encoders are read, not encoder-decoders")
    except _PROBLEMS as error:
        raise ConfigError(_line(folder, error)) from error
    return settings


def _line(folder: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{folder} cannot be loaded as a transformers encoder: {reason}"
