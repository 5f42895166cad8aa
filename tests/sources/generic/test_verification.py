"""Standard Webhooks' own library signs what we verify; a token in a header or in the URL does as well."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from standardwebhooks import Webhook

from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature
from signalcraft.sources import generic
from signalcraft.sources.generic import samples
from tests.support.web_client import add_workspace, code_of, send, web

NOW = datetime.now(UTC).replace(microsecond=0)
KEY = "whsec_" + base64.b64encode(b"k" * 24).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()
SECRETS = [
    Secret(name="key", kind="signature", value=KEY.encode()),
    Secret(name="token", kind="bearer", value=b"token"),
    Secret(name="in the URL", kind="url", value=b"of-the-url"),
]
BODY = '{"title": "Grüße", "status": "firing"}'
PATH = "/webhooks/generic"


def signed(*keys: str, at: datetime = NOW, **changes: str) -> Delivery:
    """A delivery that Standard Webhooks' library signed with each key."""
    made = [Webhook(key).sign(msg_id="msg_1", timestamp=at, data=BODY) for key in keys]
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(made),
    }
    changed = headers | {f"webhook-{name}": value for name, value in changes.items()}
    return Delivery(headers=changed, body=BODY.encode(), received_at=NOW)


@pytest.mark.parametrize("keys", [[KEY], [OTHER, KEY], [KEY, OTHER]])
def test_one_good_signature_of_several_is_enough(keys: list[str]) -> None:
    assert generic.verify(signed(*keys), SECRETS).name == "key"
    unpadded = [Secret(name="key", kind="signature", value=KEY.rstrip("=").encode())]
    assert generic.verify(signed(*keys), unpadded).name == "key"


def test_an_id_outside_of_ascii_is_signed_as_it_was_sent() -> None:
    made = Webhook(KEY).sign(msg_id="Grüße", timestamp=NOW, data=BODY)
    by_wsgi = "Grüße".encode().decode("latin-1")
    assert generic.verify(signed(KEY, id=by_wsgi, signature=made), SECRETS).name == "key"


def test_what_we_sign_standard_webhooks_verifies() -> None:
    made = samples.build("generic.signed", secret=KEY)
    assert Webhook(KEY).verify(made.body, dict(made.headers))["title"] == samples.TITLE


@pytest.mark.parametrize("seconds", [-299, 299])
def test_a_time_within_five_minutes_is_good(seconds: int) -> None:
    assert generic.verify(signed(KEY, at=NOW + timedelta(seconds=seconds)), SECRETS).name == "key"


@pytest.mark.parametrize(
    "received",
    [
        signed(OTHER),
        signed(KEY, at=NOW - timedelta(seconds=301)),
        signed(KEY, at=NOW + timedelta(seconds=301)),
        signed(KEY, id="msg_2"),
        signed(KEY, timestamp=str(int(NOW.timestamp()) + 1)),
        signed(KEY, timestamp="now"),
        signed(KEY, signature=""),
        signed(KEY, signature="v1,"),
        signed(KEY, signature="ä"),
        signed(KEY, signature=signed(KEY).headers["webhook-signature"].replace("v1,", "v1a,")),
        replace(signed(KEY), body=BODY.encode() + b" "),
        replace(signed(OTHER), headers={**signed(OTHER).headers, "authorization": "Bearer token"}),
    ],
)
def test_a_wrong_signature_an_old_time_or_a_changed_message_is_refused(received: Delivery) -> None:
    with pytest.raises(BadSignature):
        generic.verify(received, SECRETS)


def test_a_secret_that_holds_no_key_lets_nobody_sign() -> None:
    for value in (b"whsec_", b"whsec_=", b"whsec_!"):
        received = replace(signed(KEY), headers={**signed(KEY).headers, "webhook-signature": "v1,"})
        with pytest.raises(BadSignature):
            generic.verify(received, [Secret(name="empty", kind="signature", value=value)])


def test_a_token_is_of_its_own_kind() -> None:
    plain = Delivery(headers={}, body=BODY.encode(), received_at=NOW)
    basic = base64.b64encode(b"any:token").decode()
    for header in ("Bearer token", f"Basic {basic}"):
        assert generic.verify(replace(plain, headers={"authorization": header}), SECRETS).name == "token"
    assert generic.verify(replace(plain, url_token="of-the-url"), SECRETS).name == "in the URL"
    for wrong in (
        replace(plain, url_token="token"),
        replace(plain, headers={"authorization": "Bearer of-the-url"}),
        replace(plain, headers={"authorization": "Bearer x"}, url_token="of-the-url"),
    ):
        with pytest.raises(BadSignature):
            generic.verify(wrong, SECRETS)


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ, GENERIC_TOKEN="token", GENERIC_SIGNING_SECRET=f"{OTHER},{KEY}")


@pytest.mark.usefixtures("clean_redis")
def test_deliveries_are_taken_and_counted_by_kind(client: FlaskClient) -> None:
    for name, secret in (("generic.firing", "token"), ("generic.signed", KEY), ("generic.event", "token")):
        assert send(client, samples.build(name, secret=secret), PATH).status_code == 202
    counted = client.get("/metrics").get_data(as_text=True)
    for kind, secret in (("bearer", "GENERIC_TOKEN-1"), ("signature", "GENERIC_SIGNING_SECRET-2")):
        assert f'signalcraft_secret_matches_total{{kind="{kind}",secret="{secret}",workspace="default"}}' in counted


@pytest.mark.usefixtures("clean_redis")
def test_a_signed_message_that_is_sent_again_is_a_duplicate_and_others_are_not(client: FlaskClient) -> None:
    made = samples.build("generic.signed", secret=KEY)
    answers = [send(client, made, PATH).get_json()["status"] for _ in range(2)]
    assert answers == ["accepted", "duplicate"]
    assert send(client, samples.build("generic.signed", secret=KEY), PATH).get_json()["status"] == "accepted"


@pytest.mark.usefixtures("clean_redis")
def test_the_url_names_the_mapping(client: FlaskClient) -> None:
    made = samples.build("generic.healthchecks", secret="token")
    plain = replace(made, headers={name: value for name, value in made.headers.items() if not name.startswith("X-")})
    refused = send(client, plain, PATH)
    assert (refused.status_code, refused.get_json()["errors"]) == (422, {"status": ["must be firing or resolved"]})
    assert send(client, plain, f"{PATH}?mapping=healthchecks").status_code == 202
    assert send(client, plain, f"{PATH}?mapping=%00").status_code == 422
    unknown = send(client, plain, f"{PATH}?mapping=helthchecks")
    assert (unknown.status_code, code_of(unknown)) == (422, "mapping_unknown")
    assert "healthchecks" in unknown.get_json()["errors"]["mapping"][0]


@pytest.mark.usefixtures("clean_redis")
def test_a_known_path_is_never_said_to_be_gone(client: FlaskClient) -> None:
    """404 and 410 make many senders give up for good."""
    good = {"Authorization": "Bearer token", "Content-Type": "application/json"}
    answers = [
        client.post(path, data=body, headers=headers)
        for path in (PATH, f"{PATH}/nobody", f"{PATH}?mapping=unheardof")
        for headers in (good, {}, {"Content-Type": "application/json"}, good | {"Content-Type": "text/plain"})
        for body in (b"{", b"[]", b"{}", b'{"title": "x", "status": "firing"}')
    ]
    answers += [client.get(PATH), client.delete(PATH)]
    assert {answer.status_code for answer in answers} <= {202, 400, 401, 405, 415, 422}
    broken = client.post(PATH, data=b'{"title": "a "quote""}', headers=good)
    assert (broken.status_code, code_of(broken)) == (400, "body_not_json")
    assert "$NAME_JSON" in broken.get_json()["detail"]
