"""PostgreSQL: connections, tables, migrations, tenants, retention."""
