"""All tables, in the order in which they can be created."""

from typing import Final

from signalcraft.storage import models, notification_models

TABLES: Final = (*models.TABLES, *notification_models.TABLES)
