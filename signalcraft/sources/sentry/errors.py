"""Refusals that are Sentry's own."""

from signalcraft.domain.errors import Refusal


class ResourceMismatch(Refusal):
    """The body is signed and the resource header is not: a mismatch may be a replay attack."""

    status = 422
    code = "resource_mismatch"
    title = "The Sentry-Hook-Resource header contradicts the body."


class UiComponentRequest(Refusal):
    """A call of a UI component, which is signed like a webhook and goes to other paths, too."""

    status = 422
    code = "ui_component_request"
    title = "This is a call of a Sentry UI component (Sentry-App-Signature), not a webhook; we have none."
