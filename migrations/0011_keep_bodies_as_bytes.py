"""Store bodies as bytes that the client compresses: storing one costs PostgreSQL a third.

Existing bodies stay uncompressed. The migration rewrites the table under an exclusive lock, which also blocks reads:
alerts wait in the queue for that time. Workers of the previous release cannot store events during or after it: stop
them first.
"""

from zstandard import decompress

UP = """
ALTER TABLE alert_event ALTER COLUMN payload_json TYPE bytea USING convert_to(payload_json, 'UTF8');
ALTER TABLE alert_event ALTER COLUMN payload_json SET STORAGE EXTERNAL;
"""
PACKED = "SELECT id, payload_json FROM alert_event WHERE substr(payload_json, 1, 4) = '\\x28b52ffd'"
UNPACK = "UPDATE alert_event SET payload_json = %s WHERE id = %s"
DOWN = """
ALTER TABLE alert_event ALTER COLUMN payload_json TYPE text USING convert_from(payload_json, 'UTF8');
ALTER TABLE alert_event ALTER COLUMN payload_json SET STORAGE EXTENDED;
"""


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    for id_, packed in db.execute_sql(PACKED):
        db.execute_sql(UNPACK, (decompress(packed), id_))
    db.execute_sql(DOWN)
