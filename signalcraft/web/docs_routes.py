"""API documentation: ``/openapi.json`` and ``/docs``, without resources of other hosts."""

from typing import Any, Final

from flask import Blueprint, Response, current_app, jsonify, render_template_string
from flask.typing import ResponseReturnValue

from signalcraft.web.openapi import codes, describe
from signalcraft.web.problem_details import MEDIA_TYPE

docs = Blueprint("docs", __name__)

_POLICY: Final = "default-src 'none'; style-src 'self'; frame-ancestors 'none'"

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem; font-size: 1.1rem }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4; border-radius: 3px; padding: 0.1rem 0.3rem }
pre { padding: 0.6rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; border-bottom: 1px solid #eee; padding: 0.3rem 0.6rem 0.3rem 0 }
"""

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>SignalCraft API</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/style.css"></head><body>
{% macro text(markdown) %}{% for part in markdown.split("`") %}
{%- if loop.index is even %}<code>{{ part }}</code>{% else %}{{ part }}{% endif %}{% endfor %}{% endmacro %}
{% macro shape(content) %}{% for media, body in content.items() if media != problem %}
{%- set name = body.schema.get("$ref", "").rpartition("/")[2] %}<code>{{ media }}</code>
{%- if name %}, <a href="#{{ name }}">{{ name }}</a>{% elif body.schema.description %}: {{ body.schema.description }}
{%- endif %}{% endfor %}{% endmacro %}
<h1>SignalCraft API</h1>
<p>The same for programs: <a href="/openapi.json">/openapi.json</a>. Calls under <code>/api/</code> carry
<code>Authorization: Bearer &lt;token&gt;</code>; the token names the workspace.</p>
<ul>{% for path, methods in description.paths.items() %}{% for method, operation in methods.items() %}
<li><a href="#{{ operation.operationId }}"><code>{{ method|upper }} {{ path }}</code></a> {{ operation.summary }}</li>
{% endfor %}{% endfor %}
<li><a href="#codes">Codes of problems</a></li>
<li><a href="#shapes">Shapes</a></li></ul>
{% for path, methods in description.paths.items() %}{% for method, operation in methods.items() %}
<h2 id="{{ operation.operationId }}"><code>{{ method|upper }} {{ path }}</code></h2>
<p>{{ operation.summary }}</p>
{% if operation.parameters %}<table><tr><th>parameter</th><th>in</th><th>values</th></tr>
{% for parameter in operation.parameters %}<tr><td><code>{{ parameter.name }}</code></td><td>{{ parameter.in }}</td>
<td><code>{{ parameter.schema|tojson }}</code></td></tr>
{% endfor %}</table>{% endif %}
{% if operation.requestBody %}<p>Body: {{ shape(operation.requestBody.content) }}</p>{% endif %}
<table><tr><th>response</th><th></th></tr>
{% for status, response in operation.responses|dictsort %}<tr><td>{{ status }}</td>
<td>{{ text(response.description) }} {{ shape(response.content or {}) }}</td></tr>
{% endfor %}</table>
{% endfor %}{% endfor %}
<h2 id="codes">Codes of problems</h2>
<table><tr><th>code</th><th>status</th><th></th></tr>
{% for code, (status, title) in codes.items() %}<tr><td><code>{{ code }}</code></td><td>{{ status }}</td>
<td>{{ title }}</td></tr>
{% endfor %}</table>
<h2 id="shapes">Shapes</h2>
{% for name, shape in description.components.schemas.items() %}<h3 id="{{ name }}">{{ name }}</h3>
<pre>{{ shape|tojson(indent=2) }}</pre>{% endfor %}
</body></html>
"""


@docs.get("/openapi.json")
def show_description() -> ResponseReturnValue:
    """Return the OpenAPI description."""
    return jsonify(_description())


@docs.get("/docs")
def show_manual() -> ResponseReturnValue:
    """Return the API documentation as HTML."""
    page = render_template_string(_PAGE, description=_description(), codes=codes(), problem=MEDIA_TYPE)
    return Response(page, headers={"Content-Security-Policy": _POLICY})


@docs.get("/docs/style.css")
def show_style() -> ResponseReturnValue:
    """Return the stylesheet of the documentation."""
    return Response(_STYLE, mimetype="text/css")


def _description() -> dict[str, Any]:
    """Return the description, built at the first request.

    Building it takes about 30 ms, and it is constant in a process.
    """
    description: dict[str, Any] | None = current_app.extensions.get("signalcraft.web.openapi")
    if description is None:
        description = current_app.extensions["signalcraft.web.openapi"] = describe(current_app)
    return description
