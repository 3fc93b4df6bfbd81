"""Modules of CLIP and BigGAN without their packages' other imports.

``clip/__init__`` imports torchvision and the departing pkg_resources, ``pytorch_pretrained_biggan/__init__`` imports
scipy.stats; we use nothing of them, and they are a good part of the wait for a first picture.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any


def lean_import(name: str) -> Any:
    """The module ``package.module``, without running the package's ``__init__``.

    Leaves ``sys.modules`` as it was, so that others who import the package get all of it.
    """
    package = name.partition(".")[0]
    if package in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    bare: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[package] = bare
    try:
        return importlib.import_module(name)
    finally:
        for key in [key for key in sys.modules if key == package or key.startswith(f"{package}.")]:
            del sys.modules[key]
