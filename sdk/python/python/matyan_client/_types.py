"""Shared type aliases."""

from __future__ import annotations

from typing import Any, TypeAlias

JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"

AimObject: TypeAlias = Any
"""A value of a param. Every value is accepted: `matyan_client.values.plain` converts it."""

Context: TypeAlias = dict[str, Any]
