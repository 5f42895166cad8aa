"""Fields of receivers' options."""

import pytest
from marshmallow import Schema, ValidationError

from signalcraft.notify.contract import Secret
from signalcraft.notify.options import OneOrMore, SecretField, UrlField

_Options = Schema.from_dict({"url": UrlField(), "key": SecretField()})


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/x?y=z",
        "https://[2001:db8::1]:8443/",
        "http://localhost:8000/",
        "http://127.0.0.1/",
        "http://[::1]/",
    ],
)
def test_https_and_this_machine_are_accepted(url: str) -> None:
    assert _Options().load({"url": url})["url"].value == url
    assert _Options().load({"url": Secret(url)})["url"].value == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        7,
        "a.example",
        "ftp://a.example/",
        "http://a.example/",
        "http://127.0.0.1.a.example/",
        "http://localhost@a.example/",
        "http://127.0.0.2/",
        "http://0.0.0.0/",
        "https://",
        "https://a.example:0/",
        "https://a.example:99999/",
        "https://[::1/",
        "https://a.example/\nHost: b",
        "https://a.example/ x",
        "https://user:password@a.example/",
    ],
)
def test_any_other_url_is_refused_without_showing_it(url: object) -> None:
    with pytest.raises(ValidationError) as raised:
        _Options().load({"url": url})
    assert raised.value.messages["url"][0].startswith(("must be an https:// URL", "must hold no user or password"))
    assert not url or str(url) not in str(raised.value).replace("https:// URL", "")


def test_a_secret_in_the_file_is_refused_without_showing_it() -> None:
    with pytest.raises(ValidationError, match="must be env:NAME") as raised:
        _Options().load({"key": "the-secret"})
    assert "the-secret" not in str(raised.value)


def test_a_secret_is_not_shown() -> None:
    secret = _Options().load({"key": Secret("the-secret")})["key"]

    assert "the-secret" not in f"{secret} {secret!r} {[secret]}"


def test_one_value_alone_is_a_list_of_it() -> None:
    urls = OneOrMore(UrlField())
    for value in ("https://a.example", ["https://a.example"]):
        assert [url.value for url in urls.deserialize(value)] == ["https://a.example"]
    with pytest.raises(ValidationError, match="must be an https:// URL"):
        urls.deserialize(1)
