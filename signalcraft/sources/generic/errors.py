"""What is wrong with a mapping's name: refused when it is received, else a dead letter with the same code."""

from collections.abc import Iterable

from signalcraft.domain.errors import Refusal, UnexpectedShape

_CODE = "mapping_unknown"


class UnknownMapping(Refusal):
    """Refused, so that the person who configures the sender sees it; a 2xx would say that alerts come through."""

    status = 422
    code = _CODE
    title = "The webhook URL names a mapping that GENERIC_MAPPINGS does not have."

    def __init__(self, name: str, known: Iterable[str]) -> None:
        """Name the mapping, which has the characters of one, and those that there are."""
        super().__init__(errors={"mapping": [f"{name} is not one of {_listed(known)}"]})


class UnknownMappingOfAlert(UnexpectedShape):
    """The web process knew the mapping, and this worker does not; once it does, `replay --failed` processes it."""

    code = _CODE

    def __init__(self, name: str, known: Iterable[str], *, field: str) -> None:
        """Name the mapping, and those that there are."""
        super().__init__(f"{name} is not one of {_listed(known)}; GENERIC_MAPPINGS adds others", field=field)


def _listed(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))
