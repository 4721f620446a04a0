"""Tables as dataclasses of arrays: one attribute a column, all of one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl


class Arrays:
    """What every table of arrays can do. Subclasses are dataclasses with array fields only."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    @classmethod
    def none(cls) -> Self:
        """No row; columns of integers."""
        return cls(*(np.empty(0, np.int64) for _ in cls.names()))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of all ``parts`` (at least one), one after the other."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.names()))

    def chosen(self, rows: npt.NDArray[Any] | slice) -> Self:
        """The rows that ``rows`` (a mask, indices or a slice, which gives views) picks."""
        return type(self)(*(getattr(self, name)[rows] for name in self.names()))

    def frame(self) -> pl.DataFrame:
        return pl.DataFrame({name: getattr(self, name) for name in self.names()})
