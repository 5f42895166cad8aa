"""Routes of the API as OpenAPI names them: path, method and tag."""

import re

from flask import Flask
from werkzeug.routing import Rule

_CONVERTER = re.compile(r"<(?:[^:<>]+:)?([a-z_]+)>")


def rules(app: Flask) -> list[Rule]:
    """Return the routes of the API: pages are for people, and not described."""
    return [rule for rule in app.url_map.iter_rules() if tag_of(rule) != "pages"]


def tag_of(rule: Rule) -> str:
    """Return the name of the route's blueprint."""
    return str(rule.endpoint).partition(".")[0]


def path_of(rule: Rule) -> str:
    """Return the path of a route in OpenAPI's notation."""
    return _CONVERTER.sub(r"{\1}", rule.rule)


def method_of(rule: Rule) -> str:
    """Return a route's one method besides HEAD and OPTIONS."""
    (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
    return method.lower()
