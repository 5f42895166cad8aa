"""gunicorn's door: ``gunicorn app:app``. The logs are set up by ``gunicorn.conf.py``, before this is imported."""

import os

from signalcraft.settings import Settings
from signalcraft.web.app import create_app

app = create_app(Settings.from_environ(os.environ))
