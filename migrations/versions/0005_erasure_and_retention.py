"""Erasure of a user with its cut and receipt, and retention, in numbers that a recount can still check.

What erasure and retention remove from `events` is kept as numbers beside what was counted: an aggregate is what was
counted and not erased, and `expired` of it has left `events`; usage is what was stored, and `removed` of it has.
"""

from alembic import op

from migrations.script import execute_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ERASURES = """
create table erasures (
    tenant_id uuid not null references tenants,
    erasure_id uuid not null default gen_random_uuid(),
    user_hash bytea not null check (length(user_hash) = 32),
    user_id text collate "C",
    cut_at timestamptz not null default clock_timestamp(),
    step text not null default 'requested',
    deleted jsonb not null default '{}',
    kafka_until timestamptz,
    finished_at timestamptz,
    problem text,
    primary key (tenant_id, erasure_id),
    constraint only_an_open_one_names_its_user check ((user_id is null) = (finished_at is not null))
);
comment on column erasures.user_hash is 'SHA-256 of tenant_id and user_id: by which events that come late are known';
comment on column erasures.user_id is 'null once it is finished';
comment on column erasures.cut_at is 'events of the user received until then are removed, and not stored any more';
comment on column erasures.deleted is 'rows, letters, documents and keys removed so far, by place';
create index erasures_of_user on erasures (tenant_id, user_hash, cut_at);
create unique index erasures_open on erasures (tenant_id, user_hash) where finished_at is null;
create index erasures_by_time on erasures (tenant_id, cut_at, erasure_id);

alter table aggregated_events
    add column expired bigint not null default 0,
    add constraint expired_were_counted check (expired between 0 and count);
comment on column aggregated_events.expired is 'of count: removed from events by retention';

alter table usage
    add column removed bigint not null default 0,
    add column removed_bytes bigint not null default 0,
    add constraint removed_were_stored check (removed between 0 and stored and removed_bytes between 0 and bytes);
comment on column usage.removed is 'of stored: removed from events by erasure or retention';
-- The hours that events are left of, whatever their number: where retention looks.
create index usage_with_events on usage (tenant_id, hour) where stored > removed;

-- What is not summarised yet is read whole by whoever asks for a time of receipt: on a table that grows, a fifth of it.
do $$
declare
    of_partition regclass;
begin
    for of_partition in select inhrelid::regclass from pg_inherits where inhparent = 'events_by_receipt'::regclass loop
        execute format('alter index %s set (autosummarize = on)', of_partition);
    end loop;
end $$;

-- Within a week an event id that is sent again is known to be the same one; a hundred years is a date that can be told.
update plans set retention_days = greatest(7, least(retention_days, 36500)) where retention_days is not null;
alter table plans drop constraint plans_retention_days_check;
alter table plans add constraint plans_retention_days_check check (retention_days between 7 and 36500);
"""

GRANTS = """
grant select on erasures to sluice_app;
grant insert (tenant_id, user_hash, user_id) on erasures to sluice_app, sluice_auth;
-- To lock the tenant's row: then no transaction of the store worker is under way for it.
grant select (tenant_id), update (fence) on tenants to sluice_app;

grant select, delete on erasures to sluice_worker;
grant update (step, deleted) on erasures to sluice_worker;
grant update (removed, removed_bytes) on usage to sluice_worker;

-- Not who: that is for the tenant and the worker to know.
grant select (tenant_id, erasure_id, user_hash, cut_at, step, deleted, kafka_until, finished_at, problem)
    on erasures to sluice_auth;
grant update (user_id, step, kafka_until, finished_at, problem) on erasures to sluice_auth;
"""

ONE_TENANT = "(select nullif(current_setting('app.tenant_id', true), '')::uuid)"
BATCH_TENANTS = "((select nullif(current_setting('app.tenant_ids', true), '')::uuid[])::uuid[])"


def upgrade() -> None:
    execute_script(ERASURES)
    op.execute("alter table erasures enable row level security, force row level security")
    op.execute("create policy all_tenants on erasures to sluice_auth using (true) with check (true)")
    op.execute(
        f"create policy one_tenant on erasures to sluice_app "
        f"using (tenant_id = {ONE_TENANT}) with check (tenant_id = {ONE_TENANT})"
    )
    op.execute(
        f"create policy batch_tenants on erasures to sluice_worker "
        f"using (tenant_id = any {BATCH_TENANTS}) with check (tenant_id = any {BATCH_TENANTS})"
    )
    # It may lock the row, and change nothing of it.
    op.execute(f"create policy one_tenant on tenants to sluice_app using (tenant_id = {ONE_TENANT}) with check (false)")
    execute_script(GRANTS)
