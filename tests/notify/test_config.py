"""NOTIFY is checked at start: each fault is named with its place in the file, and no secret is shown."""

from datetime import timedelta
from pathlib import Path

import pytest

from signalcraft.domain.errors import InvalidSetting
from signalcraft.notify import config as notify_config

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRON = {"HOOK_SECRET": SECRET}
RECEIVER = """
[receivers.ops]
kind = "webhook"
url = "https://hooks.example.org/path"
secret = "env:HOOK_SECRET"
"""
ROUTE = '[[routes]]\nname = "all"\nto = "ops"\n'
WHOLE = f"""
fallback = "ops"
storm = 7
[defaults]
wait = "10s"
{RECEIVER}
{ROUTE}
"""


def test_text_and_the_path_of_a_file_are_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "notify.toml"
    file.write_text(WHOLE, encoding="utf-8")
    for notify in (WHOLE, str(file)):
        config = notify_config.load(notify, ENVIRON)
        assert (list(config.receivers), config.fallback, config.storm) == (["ops"], "ops", 7)
        assert [(route.name, route.to, route.wait) for route in config.routes] == [
            ("all", ("ops",), timedelta(seconds=10))
        ]


@pytest.mark.parametrize(
    ("notify", "problem"),
    [
        ("storms = 1", "storms: Unknown field"),
        ("storm = -1", "storm: Must be greater"),
        ('storm = "1"', "storm: Not a valid integer"),
        ('fallback = "nobody"', "fallback: names the unknown receiver nobody"),
        (
            '[receivers.team]\nkind = "log"\n' + '[[routes]]\nname = "all"\nto = "team"\n' * 2,
            "routes.1.name: is also the name of routes.0",
        ),
        ('[[routes]]\nname = "all"\nto = ["nobody"]', "routes.0.to: names the unknown receiver nobody"),
        (RECEIVER + '[[routes]]\nto = "ops"', "routes.0.name: Missing data"),
        (RECEIVER + '[[routes]]\nname = "all"', "routes.0.to: Missing data"),
        (RECEIVER + ROUTE + "waits = 1", "routes.0.waits: Unknown field"),
        (RECEIVER + ROUTE + "wait = 10", "routes.0.wait: must be a duration like 30s"),
        (RECEIVER + ROUTE + 'wait = "10 s"', "routes.0.wait: must be a duration like 30s"),
        (RECEIVER + ROUTE + 'on = ["closed"]', "routes.0.on.0: Must be one of"),
        (RECEIVER + ROUTE + "on = []", "routes.0.on: Shorter than"),
        (RECEIVER + ROUTE + 'go_on = "yes"', "routes.0.go_on: Not a valid boolean"),
        (RECEIVER + ROUTE + 'hours = "always"', "routes.0.hours: must look like"),
        (RECEIVER + ROUTE + 'hours = "mon-fry 08:00-18:00"', "routes.0.hours: names a day"),
        (RECEIVER + ROUTE + 'hours = "08:00-25:00"', "routes.0.hours: names a time of day that is none"),
        (RECEIVER + ROUTE + 'hours = "08:00-18:00 Mars/Base"', "routes.0.hours: names the unknown time zone"),
        (RECEIVER + ROUTE + 'hours = "08:00-18:00 ../../etc/passwd"', "routes.0.hours: names the unknown time zone"),
        (RECEIVER + ROUTE + 'hours = "08:00-08:00"', "routes.0.hours: begins and ends at the same time"),
        (RECEIVER + ROUTE + "recurrence_hours = 1.5", "routes.0.recurrence_hours: Not a valid integer"),
        (RECEIVER + ROUTE + 'match = { projects = "x" }', "routes.0.match.projects: Unknown field"),
        (RECEIVER + ROUTE + 'match = { severity_min = "worst" }', "routes.0.match.severity_min: Must be one of"),
        (RECEIVER + ROUTE + "match = { project = [] }", "routes.0.match.project: must be text, or a list of texts"),
        (RECEIVER + ROUTE + "match = { tags = { team = 1 } }", "routes.0.match.tags.team.value: must be text"),
        ('[defaults]\nname = "x"', "defaults.name: Unknown field"),
        ('[receivers."a b"]\nkind = "log"', "receivers.a b.key: String does not match"),
        ("[receivers.ops]\n", "receivers.ops.kind: Missing data"),
        ('[receivers.ops]\nkind = "pigeon"', "receivers.ops.kind: Must be one of"),
        (RECEIVER + 'extra = "x"', "receivers.ops.extra: Unknown field"),
        (RECEIVER.replace("https:", "http:"), "receivers.ops.url: must be an https:// URL"),
        (RECEIVER.replace("env:HOOK_SECRET", "env:MISSING"), "receivers.ops.secret: names the environment variable"),
        ("= 1", "it is not TOML"),
        ("nowhere/notify.toml", "the file nowhere/notify.toml cannot be read"),
    ],
)
def test_each_fault_is_named_with_its_place(notify: str, problem: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        notify_config.load(notify, ENVIRON)
    assert str(caught.value).startswith("NOTIFY")
    assert problem in str(caught.value)
    assert SECRET not in str(caught.value)


def test_defaults_hold_for_each_route_that_does_not_say_otherwise() -> None:
    notify = f"""
[defaults]
to = ["ops"]
match = {{ project = "pay*" }}
go_on = true
{RECEIVER}
[[routes]]
name = "by default"
[[routes]]
name = "of its own"
match = {{ environment = "prod" }}
go_on = false
"""
    by_default, of_its_own = notify_config.load(notify, ENVIRON).routes
    assert (by_default.to, by_default.match.project, by_default.go_on) == (("ops",), ("pay*",), True)
    assert (of_its_own.to, of_its_own.match.project, of_its_own.go_on) == (("ops",), (), False)


def test_a_wrong_secret_of_a_variable_is_not_shown() -> None:
    with pytest.raises(InvalidSetting) as caught:
        notify_config.load(RECEIVER, {"HOOK_SECRET": "whsec_not-base64-hunter2"})
    assert "receivers.ops" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_neither_the_configuration_nor_a_receiver_shows_a_secret() -> None:
    config = notify_config.load(RECEIVER + ROUTE, ENVIRON)
    shown = f"{config!r} {config.receivers['ops']!r} {vars_of(config.receivers['ops'])!r}"
    assert SECRET not in shown
    assert SECRET.removeprefix("whsec_") not in shown


def vars_of(receiver: object) -> dict[str, object]:
    return {name: getattr(receiver, name) for name in dir(receiver) if not name.startswith("__")}


def test_without_one_the_log_is_told_as_before_and_never_of_an_end() -> None:
    config = notify_config.load(" ", {})
    assert [receiver.kind for receiver in config.receivers.values()] == ["log"]
    assert [route.on for route in config.routes] == [frozenset({"opened", "regressed", "escalated"})]


@pytest.mark.parametrize("notify", ["", RECEIVER + ROUTE])
def test_a_notifier_of_ones_own_is_one_more_receiver(notify: str) -> None:
    config = notify_config.load(notify, ENVIRON, lambda _reason, _group: None)
    assert "notifier" in config.receivers
    assert config.routes[0].to == ("notifier",)


def test_the_name_of_a_notifier_of_ones_own_is_taken() -> None:
    for notify in ('[receivers.notifier]\nkind = "log"', RECEIVER + '[[routes]]\nname = "notifier"\nto = "ops"'):
        with pytest.raises(InvalidSetting, match="notifier is the name of what the setting NOTIFIER adds"):
            notify_config.load(notify, ENVIRON, lambda _reason, _group: None)
