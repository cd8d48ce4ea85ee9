"""Objects that replace their locks in forked children.

A child has only the thread that forked. A lock that another thread held in that moment would never
be released in the child.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """An object with locks."""

    def after_fork(self) -> None:
        """Replaces the locks, in a child that has no other thread."""
        ...


_objects: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def watch(target: ForkAware) -> None:
    """Makes forked children call `after_fork` of an object, which is held weakly."""
    _objects.add(target)


def _after_fork() -> None:
    for target in list(_objects):
        target.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
