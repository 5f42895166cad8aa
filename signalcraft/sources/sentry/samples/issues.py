"""Sample bodies about an issue: ``issue.*`` and the activity alerts."""

from typing import Any

from signalcraft.sources.sentry.samples.params import Params

_STATES = {
    "created": ("unresolved", "new"),
    "assigned": ("unresolved", "ongoing"),
    "resolved": ("resolved", None),
    "unresolved": ("unresolved", "regressed"),
    "ignored": ("ignored", "archived_until_escalating"),
    "archived": ("ignored", "archived_until_escalating"),
    "triggered": ("resolved", None),
}


def issue(params: Params, action: str) -> dict[str, Any]:
    """Return ``data`` of ``issue.*``.

    It consists of the group serializer's issue, and the fields of the action.
    """
    data: dict[str, Any] = {"issue": _issue(params, action)}
    if action == "assigned" and params.assignee:
        kind, number = params.assignee
        data["assignee"] = {"type": kind, "name": "Mira Solberg", "id": number, "email": "mira@northwind.example"}
    if action == "resolved":
        data["resolution_type"] = "now"
    return data


def activity_alert(params: Params, action: str) -> dict[str, Any]:
    """Return ``data`` of ``activity_alert``."""
    return {
        "issue": _issue(params, action),
        "activity": {
            "type": params.activity,
            "details": {"user": {"id": 31, "name": "Mira Solberg", "username": "mira"}, "summary": "fixed in 4.18.3"},
        },
        "alert": {
            "id": 6604,
            "title": params.rule,
            "sentry_app_id": 817,
            "url": params.api(f"organizations/{params.org}/workflows/6604/"),
            "web_url": params.page("monitors/alerts/6604/"),
        },
    }


def _issue(params: Params, action: str) -> dict[str, Any]:
    status, substatus = _STATES[action]
    moment = params.with_offset if action == "created" else params.with_z
    # Pages of an issue are on the organization's own domain, those of its events are not.
    origin = params.base.replace("https://sentry.io", f"https://{params.org}.sentry.io")
    page = f"{origin}/issues/{params.issue_id}/" if origin != params.base else params.page(f"issues/{params.issue_id}/")
    return {
        "url": params.api(f"organizations/{params.org}/issues/{params.issue_id}/"),
        "web_url": page,
        "project_url": f"{origin}/issues/?project={params.project_id}",
        "id": params.issue_id,
        "shareId": None,
        "shortId": f"{params.project.upper()}-3KD",
        "title": params.title,
        "culprit": "shop.payments.gateway in charge",
        "permalink": page,
        "logger": "shop.payments",
        "level": params.level,
        "status": status,
        "statusDetails": params.status_details or {},
        "substatus": params.substatus or substatus,
        "isPublic": False,
        "platform": "python",
        "project": {
            "id": str(params.project_id),
            "name": params.project.title(),
            "slug": params.project,
            "platform": "python-flask",
        },
        "type": "error",
        "metadata": {
            "type": params.kind,
            "value": params.value,
            "filename": "shop/payments/gateway.py",
            "function": "charge",
            "initial_priority": 75,
        },
        **_user_fields(params, action),
        **_type(params),
        "priority": "high",
        "priorityLockedAt": None,
        "seerFixabilityScore": None,
        "seerAutofixLastTriggered": None,
        "isUnhandled": True,
        "count": str(params.count),
        "userCount": 9,
        "firstSeen": moment,
        "lastSeen": moment,
    }


def _type(params: Params) -> dict[str, Any]:
    kind = params.occurs_as
    if kind is None:
        return {"issueType": params.issue_type, "issueCategory": "error"}
    return {
        "issueType": params.issue_type,
        "issueCategory": kind.categories[-1],
        "type": "generic",
        "title": kind.title,
        "culprit": kind.transaction,
        "level": kind.level,
        "metadata": {"title": kind.title, "value": kind.subtitle},
    }


def _user_fields(params: Params, action: str) -> dict[str, Any]:
    assigned = None
    if action == "assigned" and params.assignee:
        kind, number = params.assignee
        assigned = {"type": kind, "id": str(number), "name": "Mira Solberg"}
    return {
        "numComments": 0,
        "assignedTo": assigned,
        "isBookmarked": False,
        "isSubscribed": False,
        "subscriptionDetails": None,
        "hasSeen": False,
        "annotations": [],
    }
