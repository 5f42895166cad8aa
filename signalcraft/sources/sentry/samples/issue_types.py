"""Sentry's types of issues besides errors: what each calls its issue, and what its events are titled.

Slugs, categories and levels are those of Sentry's ``issues/grouptype.py`` (each type has an old category and a newer
one); the texts are made up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ERROR = "error"


@dataclass(frozen=True, slots=True)
class IssueType:
    """A type of issue. ``transaction`` is the title of its events: where they come from, not what is wrong."""

    categories: tuple[str, ...]
    level: str
    title: str
    subtitle: str
    transaction: str

    def occurrence(self, event_id: str, title: str) -> dict[str, Any]:
        """Return the ``occurrence`` of an event."""
        return {
            "id": event_id[::-1],
            "eventId": event_id,
            "issueTitle": title,
            "subtitle": self.subtitle,
            "culprit": self.transaction,
            "level": self.level,
            "evidenceData": {},
            "evidenceDisplay": [{"name": "Evidence", "value": self.subtitle, "important": True}],
        }


_QUERY = ("performance", "db_query")
_HTTP = ("performance", "http_client")
_FRONTEND = ("performance", "frontend")
_MOBILE = ("performance", "mobile")
_PROFILE = ("profile", "mobile")
_PAGE, _BOOKS, _SCREEN = "/checkout", "/books/", "CheckoutActivity"

ISSUE_TYPES: Final[Mapping[str, IssueType]] = {
    "performance_n_plus_one_db_queries": IssueType(
        _QUERY, "info", "N+1 Query", "SELECT name FROM author WHERE id = %s", _BOOKS
    ),
    "performance_slow_db_query": IssueType(
        _QUERY, "info", "Slow DB Query", "SELECT * FROM orders WHERE note LIKE %s", "/orders/"
    ),
    "performance_consecutive_db_queries": IssueType(
        _QUERY, "info", "Consecutive DB Queries", "SELECT total FROM basket WHERE id = %s", "/basket/"
    ),
    "query_injection_vulnerability": IssueType(
        ("db_query",),
        "error",
        "Potential Query Injection Vulnerability",
        "SELECT * FROM book WHERE q = …",
        "/search",
    ),
    "performance_n_plus_one_api_calls": IssueType(_HTTP, "info", "N+1 API Call", "/api/books/?id=3", _BOOKS),
    "performance_consecutive_http": IssueType(_HTTP, "info", "Consecutive HTTP", "GET /stock/11", _PAGE),
    "performance_large_http_payload": IssueType(_HTTP, "info", "Large HTTP payload", "GET /catalogue", _BOOKS),
    "performance_http_overhead": IssueType(_HTTP, "info", "HTTP/1.1 Overhead", "/assets/a.js", _PAGE),
    "performance_render_blocking_asset_span": IssueType(
        _FRONTEND, "info", "Large Render Blocking Asset", "https://cdn.example/all.js", _PAGE
    ),
    "performance_uncompressed_assets": IssueType(
        _FRONTEND, "info", "Uncompressed Asset", "https://cdn.example/fonts.css", _PAGE
    ),
    "web_vitals": IssueType(("frontend",), "info", "The page /checkout was slow to load", "LCP of 4.1 s", _PAGE),
    "performance_p95_endpoint_regression": IssueType(
        ("performance", "metric"), "info", "Endpoint Regression", "from 120 ms to 410 ms (P95)", "POST /checkout"
    ),
    "performance_file_io_main_thread": IssueType(_MOBILE, "info", "File IO on Main Thread", "basket.db", _SCREEN),
    "performance_db_main_thread": IssueType(_MOBILE, "info", "DB on Main Thread", "SELECT * FROM draft", _SCREEN),
    "profile_image_decode_main_thread": IssueType(
        _PROFILE, "info", "Image Decoding on Main Thread", "cover.png was decoded for 90 ms", _SCREEN
    ),
    "profile_frame_drop": IssueType(_PROFILE, "info", "Frame Drop", "120 ms in layoutBasket", _SCREEN),
    "profile_function_regression": IssueType(
        ("profile", "metric"), "info", "Function Regression", "render_basket: from 20 ms to 70 ms (P95)", _BOOKS
    ),
    "monitor_check_in_failure": IssueType(
        ("cron", "outage"), "error", "Cron failure: nightly-invoices", "Your monitor missed a check-in.", ""
    ),
    "uptime_domain_failure": IssueType(
        ("uptime", "outage"), "error", "Downtime detected for https://shop.example", "Your domain is down", ""
    ),
    "feedback": IssueType(("feedback",), "info", "User Feedback", "The pay button does nothing.", _PAGE),
    "replay_click_rage": IssueType(("replay", "frontend"), "error", "Rage Click", "button.pay", _PAGE),
    "replay_hydration_error": IssueType(("replay", "frontend"), "error", "Hydration Error", "the total differs", _PAGE),
    "metric_issue": IssueType(
        ("metric_alert", "metric"), "error", "Failed payments are high", "Critical: over 300 in 10 minutes", ""
    ),
    "llm_detected_experimental": IssueType(
        ("ai_detected",), "info", "Basket is fetched twice", "The second answer is never used.", _BOOKS
    ),
    "preprod_size_analysis": IssueType(("preprod",), "error", "Install size is over its limit", "61 MB of 50 MB", ""),
}
