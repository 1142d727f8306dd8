"""The database schema, by Alembic, and the roles it is granted to."""
