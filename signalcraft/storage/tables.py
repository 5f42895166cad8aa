"""All tables, in the order in which they can be created."""

from typing import Final

from signalcraft.storage import delivery_models, models, notification_models

TABLES: Final = (*models.TABLES, *delivery_models.TABLES, *notification_models.TABLES)
