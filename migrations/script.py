"""Running several SQL statements as one script inside a migration's transaction."""

from __future__ import annotations

from alembic import op


def execute_script(sql: str) -> None:
    """Run `sql`, which may hold many statements: the driver's extended protocol takes only one at a time."""
    bind = op.get_bind()
    # The adapter opens the transaction with its first own statement; the script has to run inside it.
    bind.exec_driver_sql("select 1")
    driver = bind.connection.dbapi_connection
    assert driver is not None  # noqa: S101  a migration runs on an open connection
    driver.run_async(lambda connection: connection.execute(sql))
