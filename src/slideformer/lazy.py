# SPDX-License-Identifier: Apache-2.0
"""Importing late: names of a package when they are first used, the models when timm is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
    from importlib.machinery import ModuleSpec
    from types import ModuleType
else:  # importing their bases takes longer than all the rest of this package's start
    Loader = MetaPathFinder = object


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names are imported when they are first used.

    Args:
        package: its full name.
        homes: full name of the module that defines each name, or that each name is.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(homes[name])
        found = module if homes[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, found)  # from now on no longer asked for here
        return found

    return getattr_


def import_with(name: str, follower: str) -> None:
    """Import a module as soon as another one has been imported; now, if it has.

    Args:
        name: full name of the module that is waited for.
        follower: full name of the module that is imported then.
    """
    if name in sys.modules:
        importlib.import_module(follower)
    elif not any(isinstance(finder, Following) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, Following(name, follower))


class Following(MetaPathFinder):
    """Finds one module as Python would, and imports another one after it.

    Args:
        name: full name of the module that is waited for.
        follower: full name of the module that is imported then.
    """

    def __init__(self, name: str, follower: str) -> None:
        self.name, self.follower = name, follower

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give, its loader replaced."""
        if fullname != self.name:
            return None
        others = (x for x in sys.meta_path if x is not self and hasattr(x, "find_spec"))
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = Then(spec.loader, self.follower)
        return spec


class Then(Loader):
    """Loads a module as its own loader does, then imports another one.

    Args:
        loader: the module's own.
        follower: full name of the other module.
    """

    def __init__(self, loader: Loader, follower: str) -> None:
        self.loader, self.follower = loader, follower

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module, empty."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module, which keeps no trace of this loader, and import the other one."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        importlib.import_module(self.follower)
