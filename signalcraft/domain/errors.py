"""Why we say no: refusals, each with its HTTP status and stable code, and the two kinds of failure of work.

A ``Refusal`` answers a request. ``PermanentError`` says that one delivery is bad: set it aside with its
reason. ``RecoverableError`` says that something we need is away: wait and try again, lose nothing.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType


class Refusal(Exception):
    """A request we do not serve. Rendered as RFC 9457 ``application/problem+json``.

    ``detail`` is for the sender and never quotes what was sent. ``errors`` names fields by path.
    """

    status = 500
    code = "internal_error"
    title = "Something went wrong on our side."

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Mapping[str, Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what the answer needs; an empty ``detail`` leaves the title to speak."""
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = MappingProxyType(dict(errors or {}))
        self.headers = MappingProxyType(dict(headers or {}))


class BodyNotJson(Refusal):
    status = 400
    code = "body_not_json"
    title = "The body is not JSON in UTF-8."


class BodyNotObject(Refusal):
    status = 400
    code = "body_not_object"
    title = "The body is JSON, but not an object."


class BodyTooDeep(Refusal):
    status = 400
    code = "body_too_deep"
    title = "The body nests too deeply."


class BodyTooManyValues(Refusal):
    status = 400
    code = "body_too_many_values"
    title = "The body holds too many values."


class BodyNumberTooLong(Refusal):
    status = 400
    code = "body_number_too_long"
    title = "The body holds an integer of too many digits."


class BodyDuplicateKey(Refusal):
    status = 400
    code = "body_duplicate_key"
    title = "The body holds an object with the same key twice."


class InvalidCursor(Refusal):
    status = 400
    code = "cursor_invalid"
    title = "The cursor is not one that this list gave out."


class BadSignature(Refusal):
    """Also for an unknown workspace and for one without a secret: the sender cannot tell which."""

    status = 401
    code = "signature_invalid"
    title = "The request carries no signature that a secret of this workspace explains."


class BadToken(Refusal):
    status = 401
    code = "token_invalid"
    title = "The Authorization header has no bearer token that we know."


class NotAllowed(Refusal):
    status = 403
    code = "scope_missing"
    title = "The token does not have the scope for this."


class NotFound(Refusal):
    status = 404
    code = "not_found"
    title = "There is nothing here under that id."


class Conflict(Refusal):
    status = 409
    code = "conflict"
    title = "The group's state does not allow this change."


class LengthRequired(Refusal):
    status = 411
    code = "length_required"
    title = "The request needs a Content-Length; a chunked body is not taken."


class PreconditionFailed(Refusal):
    status = 412
    code = "precondition_failed"
    title = "The group has changed since the version that If-Match names."


class BodyTooLarge(Refusal):
    status = 413
    code = "body_too_large"
    title = "The body is larger than MAX_BODY_BYTES."


class UnsupportedMedia(Refusal):
    status = 415
    code = "media_unsupported"
    title = "Only application/json, in UTF-8 and without a content encoding, is taken."


class InvalidFields(Refusal):
    status = 422
    code = "fields_invalid"
    title = "A field is missing, of the wrong type or not allowed; see errors."


class ResourceMismatch(Refusal):
    """The resource header is not signed, the body is: where they disagree, somebody may be replaying."""

    status = 422
    code = "resource_mismatch"
    title = "The Sentry-Hook-Resource header contradicts the body."


class UiComponentRequest(Refusal):
    status = 422
    code = "ui_component_request"
    title = "This is a call of a Sentry UI component (Sentry-App-Signature), not a webhook; we have none."


class TooManyRequests(Refusal):
    status = 429
    code = "rate_limited"
    title = "Too many requests; see Retry-After."


class Unavailable(Refusal):
    """Nothing was stored and nothing was acknowledged."""

    status = 503
    code = "unavailable"
    title = "We cannot store anything at the moment; please send it again."

    def __init__(self, detail: str = "", *, retry_after: int = 5) -> None:
        """``retry_after`` is in seconds."""
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class SignalCraftError(Exception):
    """A failure of ours that is no answer to a request."""


class InvalidSetting(SignalCraftError):
    """An environment variable is missing or wrong. The message begins with its name."""


class RecoverableError(SignalCraftError):
    """Something we depend on is away or busy. Nothing is wrong with the delivery: try again."""


class DatabaseUnavailable(RecoverableError):
    """PostgreSQL cannot be reached, is starting, or gave up a transaction that may be tried again."""


class QueueUnavailable(RecoverableError):
    """Redis cannot be reached, is too slow, or takes no writes."""


class PermanentError(SignalCraftError):
    """This delivery cannot be worked off, however often one tries. ``code`` is stable; it is kept beside the bytes."""

    code = "unprocessable"

    def __init__(self, message: str, *, field: str = "") -> None:
        """``field`` is the path in the body that is at fault, if one is."""
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class MissingIdentity(PermanentError):
    """No event id, and nothing to make one of."""

    code = "identity_missing"


class MissingTitle(PermanentError):
    """No title, and no type to make one of."""

    code = "title_missing"


class UnexpectedShape(PermanentError):
    """A required field is missing or of another JSON type."""

    code = "shape_unexpected"


class UnreadableDelivery(PermanentError):
    """Our own code failed on it: a fault to be mended, after which `replay --failed` works it off."""

    code = "delivery_unreadable"


class NotStorable(PermanentError):
    """The border of the store refuses the alert: a value that the tables do not allow."""

    code = "not_storable"


class AbandonedDelivery(PermanentError):
    """Whoever took it died, as often as it is tried again."""

    code = "worker_killed"

    def __init__(self) -> None:
        """There is one way to come to this."""
        super().__init__("its worker died each time that it was tried")


class IllegalTransition(SignalCraftError):
    """A status cannot follow another for this reason."""
