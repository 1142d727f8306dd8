"""The tables that hold tenants' rows, as the database's own catalog tells them: one that a migration adds is found
without being named here. Owns how a tenant's rows are removed in pieces. Refuses to know why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

KEPT = ("tenants", "tenant_deletions", "audit_log")
"""What a deleted tenant leaves behind: that it was there, and who did what to it."""

# Those that others refer to come last.
_TABLES = """
select c.relname as name, has_table_privilege(c.oid, 'DELETE') as deletable, array(
           select a.attname::text from unnest(i.indkey::int2[]) with ordinality as k (number, place)
           join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
           where a.attname <> 'tenant_id' order by k.place
       ) as keys
from pg_class c
join pg_attribute t on t.attrelid = c.oid and t.attname = 'tenant_id' and not t.attisdropped
join pg_index i on i.indrelid = c.oid and i.indisprimary
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
  and has_column_privilege(c.oid, t.attnum, 'SELECT') and c.relname <> all ($1::text[])
order by (select count(*) from pg_constraint k where k.contype = 'f' and k.confrelid = c.oid), c.relname
"""

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """`keys` are the columns of its primary key behind tenant_id. `deletable`: by the role that looked."""

    name: str
    deletable: bool
    keys: tuple[str, ...]


async def tenant_tables(connection: asyncpg.Connection) -> list[Table]:
    """Every table with a tenant_id that this role may read, but for `KEPT`, in the order in which to empty them."""
    rows = await connection.fetch(_TABLES, list(KEPT))
    return [Table(row["name"], row["deletable"], tuple(row["keys"])) for row in rows]


async def holds_rows(connection: asyncpg.Connection, table: Table, tenant_id: UUID) -> bool:
    """Whether any row of the tenant is left; row security must be bound to it."""
    query = f'select exists (select from "{table.name}" where tenant_id = $1)'  # noqa: S608  a name from the catalog
    return bool(await connection.fetchval(query, tenant_id))


async def delete_some(
    connection: asyncpg.Connection, table: Table, tenant_id: UUID, after: Key | None, most: int
) -> tuple[int, Key | None]:
    """Delete the next `most` of the tenant's rows behind the key `after`; row security must be bound to it.

    Returns how many, and the key to go on behind; None: there was no more. In the order of the primary key, so that
    what was deleted before is not walked over again.
    """
    keys = ", ".join(f'"{key}"' for key in table.keys)
    where = f'from "{table.name}" where tenant_id = $1'
    values: list[Any] = [tenant_id]
    if after is not None:
        where += f" and ({keys}) > ({_placeholders(values, after)})"
    last: Key | None = None
    if keys:
        row = await connection.fetchrow(f"select {keys} {where} order by {keys} offset {most - 1} limit 1", *values)
        last = None if row is None else tuple(row)
    if last is not None:
        where += f" and ({keys}) <= ({_placeholders(values, last)})"
    done = await connection.execute(f"delete {where}", *values)
    return int(done.removeprefix("DELETE ")), last


def _placeholders(values: list[Any], more: Key) -> str:
    first = len(values) + 1
    values += more
    return ", ".join(f"${number}" for number in range(first, first + len(more)))
