"""WSGI entry point: ``gunicorn app:app``. ``gunicorn.conf.py`` configures logging before this is imported."""

import os

from signalcraft.settings import Settings
from signalcraft.web.app import create_app

app = create_app(Settings.from_environ(os.environ))
