"""The files of ``ops/`` for a machine of one's own: systemd, nginx and Prometheus accept them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from signalcraft.settings import Settings
from tests.support import ROOT

OPS = ROOT / "ops"
UNITS = sorted((OPS / "systemd").glob("*.service"))
NGINX = OPS / "nginx/signalcraft.conf"
DEPLOY = (ROOT / "docs/deploy.md").read_text()


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr if command[0] == "systemd-analyze" else "") == (0, ""), (
        done.stdout + done.stderr
    )


def _commands(unit: Path) -> str:
    """Return what a unit starts, without its virtual environment and address."""
    (command,) = re.findall(r"^ExecStart=/srv/signalcraft/\.venv/bin/(.*)$", unit.read_text(), re.MULTILINE)
    return str(command).replace("--bind 127.0.0.1:%i ", "")


def test_the_units_start_what_the_procfile_starts() -> None:
    processes = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    processes.pop("release")
    assert {unit.name: _commands(unit) for unit in UNITS} == {
        "signalcraft-notifier.service": processes["notifier"],
        "signalcraft-web@.service": processes["web"],
        "signalcraft-worker@.service": processes["worker"],
    }


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for unit in UNITS:
        text = unit.read_text().replace("/srv/signalcraft/.venv/bin/", f"{tmp_path}/bin/")
        (tmp_path / unit.name).write_text(text)
    for program in ("python", "gunicorn"):
        (tmp_path / "bin" / program).touch(mode=0o755)
    instances = ("signalcraft-web@8000", "signalcraft-worker@1", "signalcraft-notifier")
    _run("systemd-analyze", "verify", "--recursive-errors=no", *(f"{tmp_path}/{name}.service" for name in instances))


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certify = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=alerts.example.org"]
    subprocess.run([*certify, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    site = NGINX.read_text()
    for directive, path in (("ssl_certificate", certificate), ("ssl_certificate_key", key)):
        site, replaced = re.subn(rf"(?m)^(\s+{directive}\s+)\S+;", rf"\g<1>{path};", site)
        assert replaced == 1
    site = site.replace("listen 80;", "listen 8080;").replace("[::]:80;", "[::]:8080;").replace("443 ", "8443 ")
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ {site} }}")
    _run("nginx", "-t", "-q", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))


def test_nginx_passes_on_as_large_a_body_as_is_accepted_and_never_redirects() -> None:
    site = NGINX.read_text()
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", site)
    settings = Settings.from_environ({"DATABASE_URL": "postgresql://x/x", "REDIS_URL": "redis://x"})
    assert int(megabytes) * 1024 * 1024 == settings.max_body_bytes
    assert not re.search(r"return 3\d\d|rewrite", site), "Sentry takes a redirect for success"


def test_promtool_accepts_the_scrape_configuration_and_it_asks_one_web_process() -> None:
    path = OPS / "prometheus/prometheus.yml"
    (job,) = yaml.safe_load(path.read_text())["scrape_configs"]
    assert len(job["static_configs"][0]["targets"]) == 1, "each web process exposes the sums of all"
    _run("promtool", "check", "config", "--syntax-only", str(path))


def test_every_file_that_deploying_names_exists() -> None:
    names = re.findall(r"\bops/[\w./*@-]+\w", DEPLOY)
    assert len(names) >= 6
    assert [name for name in names if not list(ROOT.glob(name))] == []
