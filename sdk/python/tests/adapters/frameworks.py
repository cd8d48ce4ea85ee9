"""Replacements of frameworks that are not installed: modules in which every name is a class."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

# Packages that the module of each adapter imports.
PACKAGES = {
    "acme": ["acme"],
    "catboost": [],
    "distributed_hugging_face": ["accelerate", "transformers"],
    "fastai": ["fastai", "fastcore"],
    "hugging_face": ["transformers"],
    "keras": ["keras"],
    "keras_tuner": ["keras", "keras_tuner"],
    "lightgbm": [],
    "mxnet": ["mxnet"],
    "optuna": [],
    "paddle": ["paddle"],
    "prophet": [],
    "pytorch": [],
    "pytorch_ignite": ["ignite"],
    "pytorch_lightning": ["lightning", "pytorch_lightning"],
    "sb3": ["stable_baselines3"],
    "tensorflow": ["keras", "tensorflow"],
    "xgboost": ["xgboost"],
}


class StubModule(types.ModuleType):
    """Module that makes up a class, which accepts any arguments, for each name."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.islower():
            # The decorators of Lightning.
            return lambda function: function
        stub = type(name, (), {"__init__": lambda self, *args, **kwargs: None})
        setattr(self, name, stub)
        return stub


class StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Importer of stub modules for some packages, or of nothing at all."""

    def __init__(self, packages: Sequence[str], *, missing: bool) -> None:
        self._packages = packages
        self._missing = missing

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in self._packages:
            return None
        if self._missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return importlib.util.spec_from_loader(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leaves the module empty."""


@contextlib.contextmanager
def replaced_framework(adapter: str, *, missing: bool = False) -> Iterator[types.ModuleType]:
    """Imports an adapter while its framework is replaced by stubs or, on request, missing."""
    packages = PACKAGES[adapter]
    finder = StubFinder(packages, missing=missing)
    replaced = _take_modules(packages)
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module(f"matyan_client.adapters.{adapter}")
    finally:
        sys.meta_path.remove(finder)
        _take_modules(packages)
        sys.modules.update(replaced)


def _take_modules(packages: Sequence[str]) -> dict[str, types.ModuleType]:
    """Removes the modules of the packages and of all adapters, and returns them."""
    adapters = [f"matyan_client.adapters.{adapter}" for adapter in PACKAGES]
    short_names = [f"matyan_client.{adapter}" for adapter in PACKAGES]
    taken = [
        name
        for name in sys.modules
        if name.partition(".")[0] in packages or name in adapters or name in short_names
    ]
    return {name: sys.modules.pop(name) for name in taken}
