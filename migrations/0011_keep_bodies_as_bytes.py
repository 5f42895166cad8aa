"""Keep bodies as bytes that are compressed before they are sent: storing one costs PostgreSQL a third.

What is there stays as it is, uncompressed. The table is written anew, under a lock that lets nobody read: alerts wait
in the queue as long. Workers of the release before cannot store meanwhile nor afterwards: stop them first.
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
