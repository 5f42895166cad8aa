"""Values of a diagnosis: why a delivery does not verify."""

from dataclasses import dataclass
from enum import StrEnum

from signalcraft.domain.deliveries import Secret


class Verdict(StrEnum):
    """The result of a diagnosis."""

    GOOD = "good"
    RE_ENCODED = "re-encoded"
    RETIRED = "retired"
    OTHER_WORKSPACE = "other workspace"
    OTHER_FAMILY = "other family"
    UNSIGNED = "unsigned"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A verdict, its evidence, and advice."""

    verdict: Verdict
    says: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A secret that may have signed the body.

    ``other_workspace`` is the slug of its workspace, if that is not the one of the delivery.
    """

    secret: Secret
    retired: bool = False
    other_workspace: str = ""

    def __str__(self) -> str:
        """Return its name, with what is remarkable about it."""
        name = f"the retired secret {self.secret.name}" if self.retired else self.secret.name
        return f"{name} of the workspace {self.other_workspace}" if self.other_workspace else name
