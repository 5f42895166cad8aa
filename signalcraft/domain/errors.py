"""Exceptions: refusals, each with its HTTP status and stable code, and the two kinds of processing failure.

A ``Refusal`` becomes the response to a request. ``PermanentError``: one delivery is bad, dead-letter it with its
reason. ``RecoverableError``: a dependency is unavailable, wait and try again, lose nothing.
"""

from collections.abc import Mapping, Sequence


class Refusal(Exception):
    """A refused request. Rendered as RFC 9457 ``application/problem+json``.

    ``detail`` is for the client and never quotes the request. ``errors`` names fields by path.
    """

    status = 500
    code = "internal_error"
    title = "Something went wrong on our side."
    #: Of a 401, the header ``WWW-Authenticate``, which RFC 9110 demands.
    challenge = ""

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Mapping[str, Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Store the content of the response; ``detail`` may be empty."""
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = dict(errors or {})
        self.headers = dict(headers or {})


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


class BadSignature(Refusal):
    """Also for an unknown workspace and one without a secret: the response must not reveal which."""

    status = 401
    code = "signature_invalid"
    title = "The request's signature does not match any live secret of this workspace."
    challenge = 'HMAC-SHA256 realm="webhooks"'


class BadToken(Refusal):
    status = 401
    code = "token_invalid"
    title = "The Authorization header has no valid bearer token."
    challenge = 'Bearer realm="signalcraft"'


class NotAllowed(Refusal):
    status = 403
    code = "scope_missing"
    title = "The token does not have the scope for this."


class ForeignForm(NotAllowed):
    """Of pages alone: the API has no forms."""

    code = "form_foreign"
    title = "This form is not from a page of this session. Reload the page and try again."


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
    title = "The request needs a Content-Length; a chunked body is not accepted."


class PreconditionFailed(Refusal):
    status = 412
    code = "precondition_failed"
    title = "The group has changed since the version that If-Match names."


class BodyTooLarge(Refusal):
    status = 413
    code = "body_too_large"
    title = "The body is larger than MAX_BODY_BYTES."


class UriTooLong(Refusal):
    status = 414
    code = "uri_too_long"
    title = "The path or the query string is too long."


class UnsupportedMedia(Refusal):
    status = 415
    code = "media_unsupported"
    title = "Only JSON (application/json or a type in +json), in UTF-8 and without a content encoding, is accepted."


class InvalidFields(Refusal):
    status = 422
    code = "fields_invalid"
    title = "A field is missing, of the wrong type or not allowed; see errors."


class InvalidCursor(Refusal):
    status = 422
    code = "cursor_invalid"
    title = "This list did not issue the cursor."


class TooManyRequests(Refusal):
    status = 429
    code = "rate_limited"
    title = "Too many requests; see Retry-After."


class Unavailable(Refusal):
    """A delivery was neither stored nor acknowledged; an answer could not be read."""

    status = 503
    code = "unavailable"
    title = "SignalCraft cannot do this at the moment; please send the request again."

    def __init__(self, detail: str = "", *, retry_after: int = 5) -> None:
        """Set the Retry-After header; ``retry_after`` is in seconds."""
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class SignalCraftError(Exception):
    """A failure outside of a request."""


class InvalidSetting(SignalCraftError):
    """An environment variable is missing or wrong. The message begins with its name."""


class ThreadsExhausted(SignalCraftError):
    """The system has no thread to spare. This process cannot go on: it must end and be started again."""


class RecoverableError(SignalCraftError):
    """A dependency is unavailable or busy. The delivery is not at fault: try again."""


class DatabaseUnavailable(RecoverableError):
    """PostgreSQL cannot be reached, is starting, or aborted a transaction that can be retried."""


class DatabaseUnusable(DatabaseUnavailable):
    """PostgreSQL runs, and stores nothing until somebody acts; the message says what to do, and may be shown to all."""


class StatementCanceled(DatabaseUnavailable):
    """PostgreSQL canceled a statement, mostly for ``statement_timeout``: it was slow, or there was too much to do."""


class QueueUnavailable(RecoverableError):
    """Redis cannot be reached, is too slow, or accepts no writes."""


class PermanentError(SignalCraftError):
    """This delivery cannot be processed; retries do not help. ``code`` is stable, and stored with the dead letter."""

    code = "unprocessable"

    def __init__(self, message: str, *, field: str = "") -> None:
        """Prefix the message with ``field``, if any.

        ``field`` is the path in the body that is at fault.
        """
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class UnexpectedShape(PermanentError):
    """A required field is missing or of another JSON type."""

    code = "shape_unexpected"


class UnreadableDelivery(PermanentError):
    """Our own code failed on the delivery: a bug. Once it is fixed, `replay --failed` processes the delivery."""

    code = "delivery_unreadable"

    def __init__(self, error: Exception) -> None:
        """Say what ``error`` was; its own text may quote the body."""
        super().__init__(
            f"our own code failed on it with {type(error).__name__}, which is a bug: the worker's log has the "
            "traceback under its delivery_id; once it is fixed, replay it"
        )


class TakesTooLong(PermanentError):
    """PostgreSQL canceled each try to store the delivery, although it was alone in its transaction."""

    code = "takes_too_long"

    def __init__(self) -> None:
        """Set the message, which is always the same."""
        super().__init__("PostgreSQL canceled each try to store it alone, mostly for statement_timeout")


class NotStorable(PermanentError):
    """The alert fails validation before insert: a value that the tables do not allow."""

    code = "not_storable"


class AbandonedDelivery(PermanentError):
    """Every worker that claimed the delivery died, up to the maximum number of tries."""

    code = "worker_killed"

    def __init__(self) -> None:
        """Set the message, which is always the same."""
        super().__init__("its worker died each time that it was tried")


class IllegalTransition(SignalCraftError):
    """The trigger is not allowed in the group's status."""
