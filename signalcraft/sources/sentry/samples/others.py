"""Sample bodies about neither an event nor an issue: metric alerts, and resources that are no alert."""

from datetime import timedelta
from typing import Any

from signalcraft.sources.sentry.samples.params import TITLE, Params

SEER_ACTIONS = (
    "root_cause_started",
    "root_cause_completed",
    "solution_started",
    "solution_completed",
    "coding_started",
    "coding_completed",
    "pr_created",
    "pr_ready_for_review",
    "iteration_started",
    "iteration_completed",
)

# Sentry's IncidentStatus.
_STATUSES = {"open": 1, "resolved": 2, "warning": 10, "critical": 20}


def metric_alert(params: Params, action: str) -> dict[str, Any]:
    """Return ``data`` of ``metric_alert``: the incident and its rule (``build_incident_attachment``)."""
    rule = _rule(params)
    status = _STATUSES[action] if params.incident_status is None else params.incident_status
    return {
        "metric_alert": {
            "id": params.incident,
            "identifier": params.incident,
            "organization_id": "1184",
            "projects": [params.project],
            "alert_rule": rule,
            "activities": None,
            "status": status,
            "status_method": 3,
            "type": 2,
            "title": rule["name"],
            "date_started": (params.occurred_at - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "date_detected": params.with_z,
            "date_created": params.with_z,
            "date_closed": params.with_z if action == "resolved" else None,
        },
        "description_text": "312 events in the last 10 minutes\nFilter: level:error",
        "description_title": f"{action.title()}: {rule['name']}",
        "web_url": params.page(
            f"alerts/rules/details/{params.metric_rule}/?alert={params.incident}&referrer=metric_alert_sentry_app",
        ),
    }


def _rule(params: Params) -> dict[str, Any]:
    trigger = {"label": "critical", "threshold_type": 0, "alert_threshold": 300, "resolve_threshold": 50, "actions": []}
    return {
        "id": params.metric_rule,
        "name": f"Failed payments in {params.project}" if params.title == TITLE else params.title,
        "organization_id": "1184",
        "status": 0,
        "query_type": 0,
        "dataset": "events",
        "query": "level:error",
        "aggregate": "count()",
        "threshold_type": 0,
        "resolve_threshold": 50,
        "time_window": 10,
        "environment": params.environment,
        "resolution": 2,
        "threshold_period": 1,
        "triggers": [trigger],
        "projects": [params.project],
        "include_all_projects": False,
        "date_created": "2026-02-11T09:20:31.004500Z",
        "date_modified": "2026-02-11T09:20:31.004500Z",
        "created_by": {"id": 31, "name": "Mira Solberg", "email": "mira@northwind.example"},
    }


def installation(params: Params, action: str) -> dict[str, Any]:
    """Return ``data`` of ``installation``.

    The grant code is no longer valid.
    """
    return {
        "installation": {
            "uuid": params.installation,
            "status": "installed" if action == "created" else "pending_deletion",
            "organization": {"slug": params.org, "id": 1184},
            "app": {"uuid": "c1b86c3f-7a55-4d12-8f1e-2a3f0a4de9b7", "slug": "signalcraft", "sentryAppId": 817},
            "code": "spent-grant-code",
        },
    }


def comment(params: Params, _action: str) -> dict[str, Any]:
    """Return ``data`` of ``comment``.

    Here the issue's id is a number.
    """
    return {
        "comment_id": 550148,
        "issue_id": int(params.issue_id or 0),
        "project_slug": params.project,
        "timestamp": params.with_offset,
        "comment": "The gateway's status page is red since noon.",
    }


def seer(params: Params, action: str) -> dict[str, Any]:
    """Return ``data`` of ``seer``.

    Here the issue is a group, and its id a number.
    """
    data: dict[str, Any] = {
        "run_id": 771203,
        "sentry_run_id": "8f41b02c-0a6e-4a1d-b7d2-16a1d1c04a5e",
        "group_id": int(params.issue_id or 0),
    }
    if action.startswith("root_cause"):
        data["root_cause"] = {"summary": "The client gives up before the gateway's own limit."}
    if action.startswith("solution"):
        data["solution"] = {"summary": "Wait for 8 seconds."}
    if action.startswith("iteration"):
        data["iteration_index"] = 1
    return data


def preprod_artifact(params: Params, action: str) -> dict[str, Any]:
    """Return ``data`` of ``preprod_artifact``, the only resource in camel case."""
    return {
        "buildId": "30418",
        "organizationSlug": params.org,
        "projectSlug": params.project,
        "projectId": str(params.project_id) if action.startswith("build") else None,
        "platform": "android",
        "state": "COMPLETED",
        "appInfo": {"appId": "example.shop", "version": "4.18.2", "buildNumber": 902},
        "gitInfo": None,
        "errorCode": None,
        "errorMessage": None,
    }
