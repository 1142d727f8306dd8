"""What PostgreSQL's own catalog says of isolation, for every table, partition, view and role that the migrations make.

One that a later migration adds is held to the same rules. What each role may do stands in `granted.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from migrations.roles import OWNER, RUNTIME_ROLES
from tests.integration.tenants.granted import GRANTED

if TYPE_CHECKING:
    from tests.integration.conftest import Database

RELATIONS = """
    select c.oid, n.nspname as schema, c.relname as name, c.relkind::text as kind, c.relispartition as is_partition,
           c.relrowsecurity as secured, c.relforcerowsecurity as forced, c.reloptions as options,
           exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id'
                   and not a.attisdropped) as has_tenant
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
    order by 2, 3
"""
# Also what is granted on single columns, and to everybody.
PRIVILEGES = """
    select r.rolname as role, p.privilege
    from pg_roles r cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as p (privilege)
    where r.rolname = any ($2::text[])
      and (has_table_privilege(r.oid, $1::oid, p.privilege)
           or (p.privilege <> 'DELETE' and has_any_column_privilege(r.oid, $1::oid, p.privilege)))
"""
POLICIES = """
    select p.polcmd::text as command, p.polpermissive as permissive,
           array(select coalesce(r.rolname, 'public')::text from unnest(p.polroles) as o (oid)
                 left join pg_roles r on r.oid = o.oid) as roles
    from pg_policy p where p.polrelid = $1::oid
"""
# What a role holds on a whole relation, and, where it does not, on which columns.
HELD = """
    select r.rolname as role, n.nspname as schema, c.relname as name, lower(p.privilege) as privilege,
           has_table_privilege(r.oid, c.oid, p.privilege) as whole,
           array(select a.attname::text from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and p.privilege <> 'DELETE'
                   and has_column_privilege(r.oid, c.oid, a.attnum, p.privilege)
                 order by 1) as columns
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join pg_roles r cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as p (privilege)
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and r.rolname = any ($1::text[])
      and (c.relkind <> 'S' or p.privilege in ('SELECT', 'UPDATE'))
"""
COMMANDS = {"SELECT": "r", "INSERT": "a", "UPDATE": "w", "DELETE": "d"}
TABLES = {"r", "p"}


@pytest.fixture(scope="module")
async def relations(admin: asyncpg.Connection) -> list[asyncpg.Record]:
    found = list(await admin.fetch(RELATIONS))
    # Against a query that finds nothing, and so complains of nothing.
    names = {row["name"] for row in found}
    assert {"tenants", "oauth_clients", "events", "events_00", "event_count_by_day", "usage", "audit_log"} <= names
    return found


async def granted(admin: asyncpg.Connection, oid: int) -> set[tuple[str, str]]:
    rows = await admin.fetch(PRIVILEGES, oid, list(RUNTIME_ROLES))
    return {(row["role"], row["privilege"]) for row in rows}


async def test_every_table_that_holds_tenants_rows_has_row_security_forced(relations: list[asyncpg.Record]) -> None:
    tables = [row for row in relations if row["kind"] in TABLES and row["has_tenant"]]
    unprotected = [row["name"] for row in tables if not (row["secured"] and row["forced"])]
    assert len(tables) > 20
    assert unprotected == []


async def test_every_partition_is_out_of_reach_and_has_no_policy_that_could_open_it(
    admin: asyncpg.Connection, relations: list[asyncpg.Record]
) -> None:
    partitions = [row for row in relations if row["is_partition"]]
    assert partitions
    for row in partitions:
        assert await granted(admin, row["oid"]) == set(), row["name"]
        assert await admin.fetch(POLICIES, row["oid"]) == [], row["name"]
        for role in RUNTIME_ROLES:
            usable = await admin.fetchval("select has_schema_privilege($1, $2, 'USAGE')", role, row["schema"])
            assert not usable, f"{role} may use the schema of {row['name']}"


async def test_every_view_reads_with_its_callers_rights_and_none_is_materialised_or_foreign(
    relations: list[asyncpg.Record],
) -> None:
    views = [row for row in relations if row["kind"] not in TABLES]
    assert views
    for row in views:
        assert row["kind"] == "v", f"{row['name']} would keep or fetch rows past row security"
        assert "security_invoker=true" in (row["options"] or []), row["name"]


async def test_what_a_role_may_do_with_tenants_rows_is_always_under_a_policy_for_that_role(
    admin: asyncpg.Connection, relations: list[asyncpg.Record]
) -> None:
    checked = 0
    for row in relations:
        if not (row["has_tenant"] and row["kind"] in TABLES):
            continue
        policies = await admin.fetch(POLICIES, row["oid"])
        for policy in policies:
            assert policy["permissive"], row["name"]
            assert policy["roles"], row["name"]
            assert set(policy["roles"]) <= set(RUNTIME_ROLES), f"{row['name']} has a policy for {policy['roles']}"
        for role, privilege in await granted(admin, row["oid"]):
            applying = [p for p in policies if role in p["roles"] and p["command"] in ("*", COMMANDS[privilege])]
            assert len(applying) == 1, f"{role} has {privilege} on {row['name']} under {len(applying)} policies"
            checked += 1
    assert checked > 10


async def test_each_role_holds_exactly_the_privileges_it_is_meant_to_hold(admin: asyncpg.Connection) -> None:
    held: dict[tuple[str, str], set[str]] = {}
    for row in await admin.fetch(HELD, list(RUNTIME_ROLES)):
        if row["whole"] or row["columns"]:
            columns = "" if row["whole"] else f" ({', '.join(row['columns'])})"
            table = row["name"] if row["schema"] == "public" else f"{row['schema']}.{row['name']}"
            held.setdefault((row["role"], table), set()).add(row["privilege"] + columns)
    assert held == GRANTED


@pytest.mark.parametrize(
    "attempt", ["update audit_log set action = 'x'", "delete from audit_log", "truncate audit_log"]
)
@pytest.mark.parametrize("role", [None, OWNER])
async def test_not_even_an_administrator_or_the_owner_changes_or_empties_the_audit_log(
    database: Database, role: str | None, attempt: str
) -> None:
    connection = await asyncpg.connect(database.admin_url)
    try:
        if role:
            await connection.execute(f"set role {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed or removed"):
            await connection.execute(attempt)
    finally:
        await connection.close()


async def test_no_role_may_empty_lock_by_reference_or_set_triggers_on_any_table(
    admin: asyncpg.Connection, relations: list[asyncpg.Record]
) -> None:
    for row in relations:
        for role in RUNTIME_ROLES:
            for privilege in ("TRUNCATE", "REFERENCES", "TRIGGER"):
                held = await admin.fetchval("select has_table_privilege($1, $2::oid, $3)", role, row["oid"], privilege)
                assert not held, f"{role} has {privilege} on {row['name']}"


async def test_unique_keys_of_tenants_tables_begin_with_tenant_id(admin: asyncpg.Connection) -> None:
    wrong = await admin.fetch("""
        select i.indexrelid::regclass::text as name
        from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute t on t.attrelid = c.oid and t.attname = 'tenant_id' and not t.attisdropped
        where n.nspname not in ('pg_catalog', 'pg_toast') and (i.indisunique or i.indisexclusion)
          and i.indkey[0] <> t.attnum
    """)
    assert wrong == []


async def test_foreign_keys_between_tenants_tables_begin_with_tenant_id_on_both_sides(
    admin: asyncpg.Connection,
) -> None:
    keys = await admin.fetch("""
        select k.conname as name, k.conkey[1] = t.attnum as here, k.confkey[1] = r.attnum as there
        from pg_constraint k
        join pg_attribute t on t.attrelid = k.conrelid and t.attname = 'tenant_id' and not t.attisdropped
        join pg_attribute r on r.attrelid = k.confrelid and r.attname = 'tenant_id' and not r.attisdropped
        where k.contype = 'f'
    """)
    assert keys
    assert [key["name"] for key in keys if not (key["here"] and key["there"])] == []


async def test_runtime_roles_have_no_power_of_their_own(admin: asyncpg.Connection) -> None:
    roles = await admin.fetch("select * from pg_roles where rolname = any ($1::text[])", [*RUNTIME_ROLES, OWNER])
    assert len(roles) == len(RUNTIME_ROLES) + 1
    for role in roles:
        for power in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication", "rolinherit"):
            assert not role[power], f"{role['rolname']} has {power}"
        assert role["rolcanlogin"] == (role["rolname"] != OWNER)


async def test_runtime_roles_are_members_of_nothing(admin: asyncpg.Connection) -> None:
    memberships = await admin.fetch(
        "select member::regrole::text from pg_auth_members where member::regrole::text = any ($1)",
        list(RUNTIME_ROLES),
    )
    assert memberships == []


async def test_runtime_roles_own_nothing(admin: asyncpg.Connection) -> None:
    owned = await admin.fetch(
        """
        select d.classid::regclass::text as kind, d.objid from pg_shdepend d
        where d.deptype = 'o' and d.refclassid = 'pg_authid'::regclass
          and d.refobjid in (select oid from pg_roles where rolname = any ($1::text[]))
          and d.dbid in (0, (select oid from pg_database where datname = current_database()))
        """,
        list(RUNTIME_ROLES),
    )
    assert owned == []


async def test_functions_that_run_with_their_owners_rights_can_not_be_called_and_fix_their_search_path(
    admin: asyncpg.Connection,
) -> None:
    functions = await admin.fetch("""
        select p.oid::regprocedure::text as name, p.oid, p.proconfig as config
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where p.prosecdef and n.nspname not in ('pg_catalog', 'information_schema')
    """)
    assert functions
    for function in functions:
        assert any(setting.startswith("search_path=") for setting in function["config"] or []), function["name"]
        for role in RUNTIME_ROLES:
            callable_ = await admin.fetchval(
                "select has_function_privilege($1, $2::oid, 'EXECUTE')", role, function["oid"]
            )
            assert not callable_, f"{role} may call {function['name']}"


async def test_runtime_roles_may_not_create_anything(admin: asyncpg.Connection) -> None:
    for role in RUNTIME_ROLES:
        for privilege in ("CREATE", "TEMPORARY"):
            held: Any = await admin.fetchval(
                "select has_database_privilege($1, current_database(), $2)", role, privilege
            )
            # The store worker copies into a temporary table, as COPY into a table under row security is refused.
            wanted = (role, privilege) == ("sluice_worker", "TEMPORARY")
            assert held is wanted, f"{role} and {privilege} on the database: {held}"
        schemas = await admin.fetch(
            "select nspname from pg_namespace where has_schema_privilege($1, oid, 'CREATE')", role
        )
        assert schemas == []
