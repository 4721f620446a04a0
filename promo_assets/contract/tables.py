"""Table contracts: one YAML file a table under ``expectations/<schema>/<table>.yaml``.

A contract names a table's columns (type, what to do with missing values, meaning), its grain,
the column that holds its partition, and the expectations that a slice must meet before it is
published. SQL models declare grain, owner and description in their header instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from promo_assets.contract.located_yaml import load

NAME = re.compile(r"[a-z][a-z0-9_]*")
TYPE = re.compile(r"[A-Z][A-Z ]*(\(\d+(,\s*\d+)?\))?(\[\])?")
READ = re.compile(r"(?:from|join)\s+([a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)")
Severity = Literal["critical", "warning"]

KEEP_DAYS = {"raw": 1095, "core": 1095}
"""Days that a windowed table's partitions are kept, by schema, where its contract doesn't say."""
KEEP_DAYS_ELSEWHERE = 730


class ContractError(ValueError):
    """A contract file is wrong; the message says where, what, and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Column(_Strict):
    """One column: its DuckDB type, its meaning, and its strategy for missing values.

    ``nulls``: ``never`` (a null fails the gate), ``keep`` (null means unknown and stays),
    ``fill VALUE`` (the model fills it, so a null fails the gate) or ``drop`` (the model drops or
    rejects such rows, so a null fails the gate).
    ``sources`` is the column lineage of a table made by Python, as ``schema.table.column``;
    for SQL models it is parsed from the SQL.
    """

    type: str
    description: str
    nulls: str = "never"
    sources: tuple[str, ...] = Field(default=(), alias="from")

    @field_validator("type")
    @classmethod
    def _upper(cls, value: str) -> str:
        if not TYPE.fullmatch(value.upper()):
            raise ValueError(f"{value!r} is not a DuckDB type such as VARCHAR or DECIMAL(18,2)")
        return value.upper()

    @field_validator("nulls")
    @classmethod
    def _strategy(cls, value: str) -> str:
        if value not in ("never", "keep", "drop") and not value.startswith("fill "):
            raise ValueError(f"{value!r}: expected never, keep, drop or 'fill VALUE'")
        return value

    @property
    def nullable(self) -> bool:
        """Whether a published row may hold a null here."""
        return self.nulls == "keep"


class Expectation(_Strict):
    """One expectation: a Great Expectations type with its arguments, or a ``rows`` audit.

    A ``rows`` audit is one ``select`` that returns the offending rows. It reads ``{batch}`` (the
    staged slice) and ``{window}`` (one row a day of the slice, column ``day``; tables without a
    window have no ``{window}``) and any published table. Audits of windowed tables return a
    column ``day``, so that a failure is attributed to its partition. ``{table}`` is the table
    itself, as it is published. ``same_as`` names the table whose audit of the same name has the
    query, in its place.
    """

    type: str
    severity: Severity = "critical"
    name: str = ""
    description: str = ""
    query: str = ""
    same_as: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise ValueError(f"expected a mapping with 'type', got {raw!r}")
        known = {"type", "severity", "name", "description", "query", "same_as", "arguments"}
        extra = {key: value for key, value in raw.items() if key not in known}
        kept = {key: value for key, value in raw.items() if key in known}
        return {**kept, "arguments": {**raw.get("arguments", {}), **extra}}

    @model_validator(mode="after")
    def _complete(self) -> Expectation:
        if self.type == "rows":
            if not self.name or not self.description or bool(self.query) == bool(self.same_as):
                raise ValueError(
                    "a 'rows' audit needs name, description and query (or same_as, not both)"
                )
            if self.arguments:
                raise ValueError(f"a 'rows' audit takes no {', '.join(self.arguments)}")
        elif not self.type.startswith("expect_"):
            raise ValueError(f"type {self.type!r}: expected 'rows' or a name like expect_column_…")
        elif "mostly" in self.arguments:
            raise ValueError("'mostly' hides which day failed: write a 'rows' audit by day instead")
        return self


class TableContract(_Strict):
    """A table's contract.

    ``window`` is its partition column (a DATE), or None: replaced whole. ``part`` is the second
    partition column of a table that is partitioned by day and segment. Days older than
    ``keep_days`` (by default `KEEP_DAYS`) are removed by ``promo retain``. A change log names in
    ``newest_by`` whose newest row still holds, and is kept however old it is.
    """

    table: str
    owner: str = ""
    description: str = ""
    grain: tuple[str, ...] = ()
    window: str | None = None
    part: str | None = None
    keep_days: int | None = Field(default=None, ge=1)
    newest_by: tuple[str, ...] = ()
    columns: dict[str, Column]
    expectations: tuple[Expectation, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> TableContract:
        for name in self.columns:
            if not NAME.fullmatch(name):
                raise ValueError(f"column {name!r}: expected lower_snake_case")
        named = {*self.grain, *self.newest_by, *filter(None, (self.window, self.part))}
        if unknown := named - set(self.columns):
            raise ValueError(
                "grain, window, part or newest_by names unknown columns: "
                f"{', '.join(sorted(unknown))}"
            )
        if self.window is None and (self.keep_days or self.newest_by):
            raise ValueError("keep_days and newest_by need a window: what has no days has no age")
        return self

    @property
    def schema_name(self) -> str:
        return self.table.split(".")[0]

    @property
    def table_name(self) -> str:
        return self.table.split(".")[1]

    @property
    def kept_days(self) -> int | None:
        """How many days a partition is kept; None for a table without partitions."""
        if self.window is None:
            return None
        return self.keep_days or KEEP_DAYS.get(self.schema_name, KEEP_DAYS_ELSEWHERE)

    @cached_property
    def audited_against(self) -> frozenset[str]:
        """Every ``a.b`` after a "from" or "join" of the ``rows`` audits, itself left out: the
        tables that they read, and perhaps a column after "distinct from"."""
        read = {
            name for expectation in self.expectations for name in READ.findall(expectation.query)
        }
        return frozenset(read - {self.table})

    @cached_property
    def types(self) -> dict[str, str]:
        """Column name to DuckDB type, in the declared order."""
        return {name: column.type for name, column in self.columns.items()}


def load_contract(path: Path) -> TableContract:
    """Read one contract; its table's name is its path (``<schema>/<table>.yaml``)."""
    return load(
        path,
        TableContract,
        ContractError,
        holds="a mapping with 'columns'",
        beside={"table": f"{path.parent.name}.{path.stem}"},
    )


def load_contracts(root: Path) -> dict[str, TableContract]:
    """Read every contract under ``root``; the result is keyed by ``schema.table``."""
    found = [load_contract(path) for path in sorted(root.glob("*/*.yaml"))]
    queries = {
        (contract.table, expectation.name): expectation.query
        for contract in found
        for expectation in contract.expectations
        if expectation.query
    }
    return {contract.table: _with_queries(contract, queries) for contract in found}


def _with_queries(contract: TableContract, queries: Mapping[tuple[str, str], str]) -> TableContract:
    """The contract with the queries of audits that are the same as another table's, and its own
    name in them."""

    def filled(expectation: Expectation) -> Expectation:
        place = expectation.same_as or contract.table, expectation.name
        query = queries.get(place)
        if query is None and not expectation.same_as:
            return expectation
        if query is None:
            file = f"expectations/{contract.table.replace('.', '/')}.yaml"
            raise ContractError(
                f"{file}: expectation {expectation.name!r}: same_as {expectation.same_as!r} has no "
                "query of that name; write one there, or here"
            )
        return expectation.model_copy(update={"query": query.replace("{table}", contract.table)})

    return contract.model_copy(update={"expectations": tuple(map(filled, contract.expectations))})
