"""Protection of training loops from errors of tracking."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from matyan_client import _forks
from matyan_client._warnings import warn_user

_log = logging.getLogger("matyan_client")

P = ParamSpec("P")
T = TypeVar("T")


class FailureCounter:
    """Number of failures of one adapter; the first failure is logged with its traceback."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.RLock()
        _forks.watch(self)

    def after_fork(self) -> None:
        """Replaces the lock in a forked child."""
        self._lock = threading.RLock()

    def record(self, action: str, error: BaseException) -> None:
        """Counts a failure to do `action`, which is a verb and its object."""
        with self._lock:
            self.count += 1
            first = self.count == 1
        if first:
            consequence = "training continues, and further failures are only counted"
            warn_user(f"failed to {action}; {consequence}", error)

    def __getstate__(self) -> dict[str, int]:
        return {"count": self.count}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__()  # type: ignore[misc]
        self.count = state["count"]


class CountsFailures(Protocol):
    """Object with the counter that `guarded` needs."""

    @property
    def _failures(self) -> FailureCounter: ...


S = TypeVar("S", bound=CountsFailures)


def guarded(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T | None]:
    """Decorator of a framework's hook: an exception is counted and the hook returns None."""

    @functools.wraps(method)
    def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self._failures.record(f"run {method.__qualname__}", error)
            return None

    return wrapper


def exception_resistant(
    silent: bool = False,
) -> Callable[[Callable[P, T]], Callable[P, T | None]]:
    """Decorator of a function whose exceptions must not reach its caller.

    The function returns None instead. Unless `silent`, the first exception is logged. The number
    of exceptions is available as the attribute `failures.count` of the decorated function.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T | None]:
        failures = FailureCounter()

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T | None:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if silent:
                    failures.count += 1
                else:
                    failures.record(f"run {_name_of(function)}", error)
                return None

        wrapper.failures = failures  # type: ignore[attr-defined]
        return wrapper

    return decorate


class _SafeMode:
    """Process-wide switch that `noexcept` reads."""

    enabled = False


def enable_safe_mode() -> None:
    """Makes functions decorated with `noexcept` log their exceptions."""
    _SafeMode.enabled = True


def disable_safe_mode() -> None:
    """Makes functions decorated with `noexcept` raise their exceptions, which is the default."""
    _SafeMode.enabled = False


def noexcept(function: Callable[P, T]) -> Callable[P, T | None]:
    """Decorator of a function that raises or logs its exceptions, depending on the safe mode."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if not _SafeMode.enabled:
                raise
            _log.warning("failed to run %s: %s", _name_of(function), error)
            return None

    return wrapper


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))
