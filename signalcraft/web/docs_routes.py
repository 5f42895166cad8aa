"""API documentation: ``/openapi.json`` and ``/docs``, without resources of other hosts."""

from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, current_app, jsonify, redirect, render_template_string, request
from flask.typing import ResponseReturnValue

from signalcraft.api.responses import etag
from signalcraft.ingest import context
from signalcraft.sources import SOURCES
from signalcraft.web.openapi import codes, common_codes, describe
from signalcraft.web.openapi_examples import name_of, type_of

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
{% macro reference(schema) %}{% set name = name_of(schema.get("items", schema)) -%}
{% if name %}{{ "list of " if schema.type == "array" }}<a href="#{{ name }}">{{ name }}</a>
{%- else %}{{ type_of(schema) }}{% endif %}{% endmacro %}
{% macro example(value) %}{% if value is string %}{{ value }}{% else %}{{ value|tojson }}{% endif %}{% endmacro %}
{% macro block(value) %}<pre>{% if value is string %}{{ value }}{% else %}{{ value|tojson(indent=2) }}{% endif %}</pre>
{% endmacro %}
<h1>SignalCraft API</h1>
<p>The same for programs: <a href="/openapi.json">/openapi.json</a>. Calls under <code>/api/</code> carry
<code>Authorization: Bearer &lt;token&gt;</code>; the token names the workspace. Times are RFC 3339; a parameter
may also be a date, which is its beginning in UTC. A filter may be repeated: several values are alternatives, and
<code>!</code> before one excludes it.</p>
{% for tag in description.tags %}<h3>{{ tag.name|capitalize }}</h3>
<p>{{ tag.description }}</p>
<ul>{% for path, methods in description.paths.items() %}{% for method, operation in methods.items() %}
{%- if operation.tags[0] == tag.name %}
<li><a href="#{{ operation.operationId }}"><code>{{ method|upper }} {{ path }}</code></a> {{ operation.summary }}</li>
{%- endif %}{% endfor %}{% endfor %}</ul>
{% endfor %}
<ul><li><a href="#codes">Codes of problems</a></li><li><a href="#shapes">Shapes</a></li></ul>
{% for path, methods in description.paths.items() %}{% for method, operation in methods.items() %}
<h2 id="{{ operation.operationId }}"><code>{{ method|upper }} {{ path }}</code></h2>
<p>{{ operation.summary }}</p>
{% if operation.parameters %}<table>
<tr><th>parameter</th><th>in</th><th>type</th><th></th><th>example</th></tr>
{% for parameter in operation.parameters %}{% set examples = parameter.schema.examples or [parameter.example] -%}
<tr><td><code>{{ parameter.name }}</code></td><td>{{ parameter.in }}</td>
<td>{{ type_of(parameter.schema, null=false) }}</td><td>{{ parameter.description }}</td>
<td><code>{% if examples[0] is string or examples[0] is not iterable %}{{ example(examples[0]) }}
{%- else %}{{ examples[0][0] }}{% endif %}</code></td></tr>
{% endfor %}</table>{% endif %}
{% if operation.requestBody %}{% for media, body in operation.requestBody.content.items() -%}
<p>Body: <code>{{ media }}</code>, {{ reference(body.schema) }}</p>{{ block(body.example) }}{% endfor %}{% endif %}
<table><tr><th>response</th><th></th></tr>
{% for status, response in operation.responses|dictsort %}
{%- set own = (response["x-codes"] or [])|reject("in", common)|list %}
{%- if own %}<tr><td>{{ status }}</td><td>{% for code in own %}<a href="#code-{{ code }}"><code>{{ code }}</code></a>
{{ codes[code][1] }} {% endfor %}</td></tr>
{% elif "x-codes" not in response %}<tr><td>{{ status }}</td><td>{{ response.description }}
{%- for media, body in (response.content or {}).items() %} <code>{{ media }}</code>
{%- if name_of(body.schema) %}, {{ reference(body.schema) }}
{%- elif body.schema.description %}: {{ body.schema.description }}{% endif %}
{{ block(body.example) }}{% endfor %}</td></tr>
{% endif %}{% endfor %}</table>
{% endfor %}{% endfor %}
<h2 id="codes">Codes of problems</h2>
<p>A problem is <code>application/problem+json</code>, <a href="#Problem">Problem</a>. Those that any call may answer
stand only here.</p>
<table><tr><th>code</th><th>status</th><th>from</th><th></th></tr>
{% for code, (status, title) in codes.items() %}<tr id="code-{{ code }}">
<td><code>{{ code }}</code></td><td>{{ status }}</td>
<td>{{ "any call" if code in common else "some calls" }}</td><td>{{ title }}</td></tr>
{% endfor %}</table>
<h2 id="shapes">Shapes</h2>
{% for name, shape in description.components.schemas.items() %}<h3 id="{{ name }}">{{ name }}</h3>
<table><tr><th>field</th><th>type</th><th></th><th>example</th></tr>
{% for field, schema in shape.properties.items() %}<tr><td><code>{{ field }}</code></td><td>{{ reference(schema) }}</td>
<td>{{ schema.description }}</td>
<td>{% if schema.examples %}<code>{{ example(schema.examples[0]) }}</code>{% endif %}</td></tr>
{% endfor %}</table>{% endfor %}
</body></html>
"""


_WEBHOOKS: Final = "".join(
    f"  POST {f'/webhooks/{name}':23} the webhook URL to enter in {source.TITLE}\n" for name, source in SOURCES.items()
)
_START: Final = f"""SignalCraft receives alerts of monitoring tools and puts those that belong together into groups.

{_WEBHOOKS}  GET  /docs                   the API, for people; /openapi.json for programs
  GET  /readyz                 whether all of it works
"""


@docs.get("/")
def show_start() -> ResponseReturnValue:
    """Go to the list of groups; without pages, say what this is and where to go on."""
    if context.current().settings.ui:
        return redirect("/alerts", 303)
    return Response(_START, mimetype="text/plain")


@docs.get("/openapi.json")
def show_description() -> ResponseReturnValue:
    """Return the OpenAPI description."""
    return _constant("openapi", lambda: jsonify(describe(current_app)))


@docs.get("/docs")
def show_manual() -> ResponseReturnValue:
    """Return the API documentation as HTML."""
    return _constant("manual", _render_manual)


@docs.get("/docs/style.css")
def show_style() -> ResponseReturnValue:
    """Return the stylesheet of the documentation."""
    return _constant("style", lambda: Response(_STYLE, mimetype="text/css"))


def _render_manual() -> Response:
    description = describe(current_app)
    page = render_template_string(
        _PAGE,
        description=description,
        codes=codes(),
        common=common_codes(description),
        name_of=name_of,
        type_of=type_of,
    )
    return Response(page, headers={"Content-Security-Policy": _POLICY})


def _constant(name: str, render: Callable[[], Response]) -> Response:
    """Return a page that is rendered once in a process, or 304.

    Rendering takes 30 to 70 ms, and anybody may ask for it.
    """
    pages: dict[str, Response] = current_app.extensions.setdefault("signalcraft.web.docs", {})
    page = pages.get(name)
    if page is None:
        page = pages[name] = render()
    body = page.get_data()
    response = Response(body, headers=page.headers)
    response.set_etag(etag(body))
    response.headers["Cache-Control"] = "no-cache"  # cached, but revalidated each time
    response.make_conditional(request)
    return response
