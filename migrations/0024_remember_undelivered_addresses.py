"""Remember the addresses of a mail that did not take it yet, so that those that did are not sent it again."""


def up(migrator, db) -> None:
    db.execute_sql("ALTER TABLE notification ADD COLUMN undelivered_to text[]")


def down(migrator, db) -> None:
    db.execute_sql("ALTER TABLE notification DROP COLUMN undelivered_to")
