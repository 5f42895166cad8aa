"""Plans of statements, as PostgreSQL executed them."""

from collections.abc import Iterator
from typing import Any

import pytest

from signalcraft.storage.database import database

Plan = dict[str, Any]


def recorded_plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Return a list that gets the plan of each statement from now on, which is executed twice."""
    plans: list[Plan] = []
    execute = database.execute_sql

    def explain(sql: str, parameters: Any = None) -> Any:  # noqa: ANN401 - as Peewee has it
        ((found,),) = execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters).fetchall()
        plans.append(found[0]["Plan"])
        return execute(sql, parameters)

    monkeypatch.setattr(database, "execute_sql", explain)
    return plans


def nodes(plan: Plan) -> Iterator[Plan]:
    """Yield the nodes of a plan."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)
