"""What ``openapi`` says of a route that its code does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from marshmallow import Schema

from signalcraft.domain.errors import Refusal

Shape = type[Schema] | None

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The documentation of a route. ``responses`` has the successful ones, by status.

    The example of a response is put together from those of its fields, unless ``response_examples`` has one for the
    status. ``media`` is empty for a response without a body.
    """

    summary: str
    refusals: Sequence[type[Refusal]]
    query: Shape = None
    body: Shape = None
    body_media: str = JSON
    responses: Mapping[int, Shape] = field(default_factory=lambda: {200: None})
    media: str = JSON
    request_example: Any = None
    response_examples: Mapping[int, Any] = field(default_factory=dict)
    headers: Sequence[str] = ()
    is_open: bool = False
