"""Parts of Sentry's URLs, and canonical links."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcraft.sources.sentry import urls as sentry_urls

EVENT = "3b9f4c1d2e8a47569c0d1f2e3a4b5c6d"
CANONICAL = "https://sentry.io/organizations/acme/issues/7/"
HOSTED = "https://sentry.corp.example"


@pytest.mark.parametrize(
    ("url", "org", "project", "issue_id", "event_id", "link"),
    [
        (f"https://sentry.io/organizations/acme/issues/7/events/{EVENT}/", "acme", "", "7", EVENT, CANONICAL),
        ("https://acme.sentry.io/issues/7/", "acme", "", "7", "", CANONICAL),
        (f"https://acme.sentry.io/issues/7/events/{EVENT}/?project=1#top", "acme", "", "7", EVENT, CANONICAL),
        ("https://acme.sentry.io/organizations/acme/issues/7/", "acme", "", "7", "", CANONICAL),
        ("https://sentry.io/acme/shop/issues/7/", "acme", "shop", "7", "", CANONICAL),
        ("https://sentry.io/acme/shop/issues/7/?referrer=webhooks_plugin", "acme", "shop", "7", "", CANONICAL),
        ("http://sentry.io/organizations/acme/issues/7", "acme", "", "7", "", CANONICAL),
        ("HTTPS://Sentry.IO/organizations/acme/issues/7/", "acme", "", "7", "", CANONICAL),
        (f"https://sentry.io/api/0/projects/acme/shop/events/{EVENT}/", "acme", "shop", "", EVENT, CANONICAL),
        (f"https://us.sentry.io/api/0/projects/acme/shop/events/{EVENT}/", "acme", "shop", "", EVENT, CANONICAL),
        ("https://de.sentry.io/api/0/organizations/acme/issues/7/", "acme", "", "7", "", CANONICAL),
        ("https://sentry.io/api/0/issues/7/", "", "", "7", "", None),
        ("https://us.sentry.io/issues/7/", "", "", "7", "", None),
        (f"{HOSTED}/organizations/acme/issues/7/", "acme", "", "7", "", f"{HOSTED}/organizations/acme/issues/7/"),
        (
            "http://10.0.0.5:9000/organizations/acme/issues/7/",
            "acme",
            "",
            "7",
            "",
            "http://10.0.0.5:9000/organizations/acme/issues/7/",
        ),
        (
            "http://[::1]:9000/acme/shop/issues/7/",
            "acme",
            "shop",
            "7",
            "",
            "http://[::1]:9000/organizations/acme/issues/7/",
        ),
        (
            f"{HOSTED}/tools/sentry/organizations/acme/issues/7/",
            "acme",
            "",
            "7",
            "",
            f"{HOSTED}/tools/sentry/organizations/acme/issues/7/",
        ),
        (
            f"{HOSTED}/tools/api/0/projects/acme/shop/events/{EVENT}/",
            "acme",
            "shop",
            "",
            EVENT,
            f"{HOSTED}/tools/organizations/acme/issues/7/",
        ),
        (f"{HOSTED}/sub/acme/shop/issues/7/", "acme", "shop", "7", "", f"{HOSTED}/sub/organizations/acme/issues/7/"),
        (f"{HOSTED}/issues/7/", "", "", "7", "", None),
        ("https://sentry.io.evil.example/issues/7/", "", "", "7", "", None),
        (
            "https://notsentry.io/organizations/a/issues/7/",
            "a",
            "",
            "7",
            "",
            "https://notsentry.io/organizations/a/issues/7/",
        ),
        ("https://sentry.io/organizations/acme/issues/seven/", "acme", "", "", "", CANONICAL),
        ("https://sentry.io/api/0/projects/acme/", "", "", "", "", None),
        ("https://sentry.io/api/0/projects/acme/issues/events/nope/", "acme", "issues", "", "", CANONICAL),
        ("https://sentry.io", "", "", "", "", None),
        ("https://sentry.io/organizations", "", "", "", "", None),
    ],
)
def test_a_url_is_split_into_its_parts(
    url: str,
    org: str,
    project: str,
    issue_id: str,
    event_id: str,
    link: str | None,
) -> None:
    read = sentry_urls.read(url)
    assert read is not None
    assert (read.org, read.project, read.issue_id, read.event_id) == (org, project, issue_id, event_id)
    assert sentry_urls.issue_link([read], "7") == link


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        [],
        "",
        "sentry.io/organizations/acme/issues/7/",
        "//sentry.io/issues/7/",
        "javascript:alert(1)",
        "javascript://sentry.io/%0aalert(1)",
        "data:text/html,x",
        "ftp://sentry.io/organizations/acme/issues/7/",
        "https://",
        "https:///organizations/acme/issues/7/",
        "https://user:pass@sentry.io/organizations/acme/issues/7/",
        "https://sentry.io\\@evil.example/organizations/acme/issues/7/",
        "https://sentry.io:port/organizations/acme/issues/7/",
        "https://[bad/organizations/acme/issues/7/",
        "https://sentry.io/organizations/../issues/7/",
        "https://sentry.io/organizations/a%2fb/issues/7/",
        "https://sentry.io/organizations/a b/issues/7/",
        'https://sentry.io/organizations/"onclick/issues/7/',
        "https://sentry.io/organizations/acme/issues/7/\n",
        "https://s\u00ebntry.io/organizations/acme/issues/7/",
        "https://sentry.io/organizations/acme/" + "x" * 2_000,
    ],
)
def test_anything_but_a_plain_web_address_is_no_url(url: object) -> None:
    assert sentry_urls.read(url) is None
    assert sentry_urls.as_sent(url) is None


@pytest.mark.parametrize(
    ("url", "followable"),
    [
        ("https://acme.sentry.io/alerts/rules/details/5/?alert=9&referrer=x", True),
        (f"{HOSTED}/organizations/acme/alerts/9/", True),
        ("https://acme.sentry.io/alerts/?q=<script>", False),
        ('https://acme.sentry.io/alerts/?q="x', False),
        ("https://acme.sentry.io/alerts/?q=a b", False),
        ("https://acme.sentry.io/alerts/?q=a\x00b", False),
        ("https://acme.sentry.io/alerts/?q=\\", False),
    ],
)
def test_a_url_is_kept_if_it_can_be_followed(url: str, followable: bool) -> None:  # noqa: FBT001 - a column of the table
    assert sentry_urls.as_sent(url) == (url if followable else None)


def test_without_an_issue_there_is_no_link() -> None:
    assert sentry_urls.issue_link([sentry_urls.SentryUrl(base=sentry_urls.SAAS, org="acme")], None) is None


def test_the_first_url_that_names_an_organization_decides() -> None:
    urls = [
        sentry_urls.SentryUrl(base="https://a"),
        sentry_urls.SentryUrl(base="https://b", org="b"),
        sentry_urls.SentryUrl(base="x", org="c"),
    ]
    assert sentry_urls.issue_link(urls, "7") == "https://b/organizations/b/issues/7/"


@given(
    st.lists(
        st.sampled_from(["https://", "sentry.io", "/", "api", "0", "organizations", "issues", "7", "events", "?", "."])
    )
)
def test_every_parsed_url_makes_a_plain_link(parts: list[str]) -> None:
    read = sentry_urls.read("".join(parts))
    link = sentry_urls.issue_link([read], "7") if read else None
    assert link is None or sentry_urls.as_sent(link) == link
