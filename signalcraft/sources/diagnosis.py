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


def of_signer(match: Candidate | None, title: str, advice: str) -> Diagnosis:
    """Return the diagnosis of a signature that the secret ``match`` made; None: ``advice`` is what to try."""
    if match is None:
        return Diagnosis(verdict=Verdict.UNEXPLAINED, says="No secret that is known here made it.", advice=advice)
    says = f"{match} signed it."
    if match.other_workspace:
        advice = f"Let {title}'s webhook URL end in /{match.other_workspace}, or `secret add` its secret here."
        return Diagnosis(verdict=Verdict.OTHER_WORKSPACE, says=says, advice=advice)
    if match.retired:
        advice = f"{title} still signs with the old secret: replace it there, or add it again with `secret add`."
        return Diagnosis(verdict=Verdict.RETIRED, says=says, advice=advice)
    return Diagnosis(verdict=Verdict.GOOD, says=f"The signature is good: {says}")
