"""The federation of tests/federation, here as well: pytest shares fixtures with subfolders only."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_path = Path(__file__).parents[1] / "federation" / "conftest.py"
_spec = spec_from_file_location("federation_of_tests", _path)
if _spec is None or _spec.loader is None:
    raise ImportError(f"{_path} cannot be loaded")
_module = module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)

federation = _module.federation
