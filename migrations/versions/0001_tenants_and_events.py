"""Tenants and their clients, keys, events, aggregates, offsets and dead letters, each under row security.

Conventions that tests hold every later migration to: each unique and foreign key of a tenant table starts
with tenant_id; row security is forced on each; runtime roles own nothing and are granted what they use, on
parents only. Partitions bypass their parent's policies, so they live in a schema that nobody may use.
"""

from alembic import op

from migrations.script import execute_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

EVENT_PARTITIONS = 16

CONTROL = """
create table plans (
    plan_id text primary key,
    events_per_second double precision not null check (events_per_second > 0),
    burst integer not null check (burst > 0),
    max_event_bytes integer not null default 65536 check (max_event_bytes between 1024 and 65536),
    retention_days integer check (retention_days > 0),
    shards integer not null default 1 check (shards between 1 and 64)
);
comment on column plans.retention_days is 'null: kept for ever';

insert into plans (plan_id, events_per_second, burst, retention_days, shards) values
    ('free', 100, 1000, 30, 1),
    ('standard', 2000, 10000, 365, 1),
    ('enterprise', 20000, 100000, null, 4);

create table tenants (
    tenant_id uuid primary key,
    name text not null check (length(name) between 1 and 200),
    plan_id text not null references plans,
    events_per_second double precision check (events_per_second > 0),
    burst integer check (burst > 0),
    status text not null default 'active' check (status in ('active', 'suspended')),
    created_at timestamptz not null default now(),
    fence smallint not null default 0
);
comment on column tenants.events_per_second is 'overrides the plan''s';
comment on column tenants.burst is 'overrides the plan''s';
comment on column tenants.fence is
    'never changed: the column whose UPDATE grant lets the store worker lock the row FOR KEY SHARE';

-- The platform's own tenant: administrators' clients, and dead letters that belong to nobody.
insert into tenants (tenant_id, name, plan_id)
values ('00000000-0000-0000-0000-000000000000', 'platform', 'enterprise');

create table oauth_clients (
    tenant_id uuid not null references tenants,
    client_id text collate "C" not null,
    name text not null,
    secret_hash bytea not null check (length(secret_hash) = 32),
    scopes text[] not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    primary key (tenant_id, client_id)
);
-- The token endpoint knows only the client_id. Not unique on its own: a collision must not reveal another
-- tenant's row.
create index oauth_clients_client_id on oauth_clients (client_id);

create table signing_keys (
    kid text primary key,
    algorithm text not null,
    public_jwk jsonb not null,
    private_key bytea not null,
    nonce bytea not null check (length(nonce) = 12),
    key_encryption_key_id text not null,
    created_at timestamptz not null default now(),
    signs_from timestamptz not null,
    retired_at timestamptz
);
comment on column signing_keys.private_key is 'PKCS#8 under AES-256-GCM; kid is the associated data';

create table control_version (
    only_row boolean primary key default true check (only_row),
    version bigint not null
);
insert into control_version (version) values (1);

-- Every process polls this one row to learn that tenants, clients or keys changed.
create function bump_control_version() returns trigger language plpgsql security definer
set search_path = pg_catalog, public as $$
begin
    update public.control_version set version = version + 1;
    return null;
end $$;
revoke all on function bump_control_version() from public;
"""

EVENTS = """
create table events (
    tenant_id uuid not null,
    event_id text collate "C" not null,
    event_type text collate "C" not null,
    user_id text collate "C",
    client_id text collate "C" not null,
    "timestamp" timestamptz not null,
    received_at timestamptz not null,
    index_slice integer not null,
    source_partition integer not null,
    source_offset bigint not null,
    metadata jsonb not null,
    primary key (tenant_id, event_id)
) partition by hash (tenant_id);
comment on column events.index_slice is 'yyyymm of received_at: the search index that holds this event';
comment on column events.source_offset is 'with source_partition: the Kafka record that this row came from';

create index events_by_user on events (tenant_id, user_id, "timestamp", event_id);
create index events_by_time on events (tenant_id, "timestamp");
create index events_by_receipt on events using brin (received_at);

create table aggregated_events (
    tenant_id uuid not null,
    bucket timestamptz not null,
    event_type text collate "C" not null,
    client_id text collate "C" not null,
    count bigint not null check (count >= 0),
    primary key (tenant_id, bucket, event_type, client_id)
);
comment on table aggregated_events is
    'events per 15 minutes: the coarsest bucket that divides every UTC offset in use today';

create view event_count_by_day with (security_invoker = true) as
    select tenant_id, (bucket at time zone 'UTC')::date as day, event_type, sum(count)::bigint as count
    from aggregated_events group by 1, 2, 3;

create table dead_letters (
    tenant_id uuid not null references tenants,
    dead_letter_id uuid not null default gen_random_uuid(),
    reason text not null,
    detail text not null,
    topic text not null,
    source_partition integer not null,
    source_offset bigint not null,
    record_index integer not null,
    payload bytea not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, dead_letter_id),
    unique (tenant_id, topic, source_partition, source_offset, record_index)
);
comment on column dead_letters.record_index is 'place of the event in its record; -1: the whole record';

create table stream_offsets (
    consumer_group text not null,
    topic text not null,
    partition integer not null,
    cluster_id text not null,
    topic_id uuid not null,
    next_offset bigint not null check (next_offset >= 0),
    epoch bigint not null,
    updated_at timestamptz not null default now(),
    primary key (consumer_group, topic, partition)
);
comment on table stream_offsets is 'the position of each consumer group, committed with what it wrote';
"""

GRANTS = """
grant usage on schema public to sluice_app, sluice_worker, sluice_auth;

grant select on events, aggregated_events, event_count_by_day to sluice_app;

grant select, insert on events to sluice_worker;
grant select, insert, update on aggregated_events to sluice_worker;
grant insert on dead_letters to sluice_worker;
grant select on dead_letters to sluice_worker;
grant select, insert, update on stream_offsets to sluice_worker;
grant select (tenant_id), update (fence) on tenants to sluice_worker;

grant select on plans, control_version to sluice_auth;
grant select, insert, update on tenants, oauth_clients, signing_keys to sluice_auth;
"""

ONE_TENANT = "(select nullif(current_setting('app.tenant_id', true), '')::uuid)"
BATCH_TENANTS = "((select nullif(current_setting('app.tenant_ids', true), '')::uuid[])::uuid[])"

TENANT_TABLES = ("tenants", "oauth_clients", "events", "aggregated_events", "dead_letters")
READ_BY_APP = ("events", "aggregated_events")
WRITTEN_BY_WORKER = ("events", "aggregated_events", "dead_letters", "tenants")
MANAGED_BY_AUTH = ("tenants", "oauth_clients")
BUMPING = ("plans", "tenants", "oauth_clients", "signing_keys")


def upgrade() -> None:
    execute_script(CONTROL)
    execute_script(EVENTS)
    op.execute("create schema partitions")
    for number in range(EVENT_PARTITIONS):
        name = f"partitions.events_{number:02}"
        op.execute(
            f"create table {name} partition of events for values with (modulus {EVENT_PARTITIONS}, remainder {number})"
        )
        op.execute(f"alter table {name} enable row level security, force row level security")
    for table in TENANT_TABLES:
        op.execute(f"alter table {table} enable row level security, force row level security")
    for table in READ_BY_APP:
        op.execute(f"create policy one_tenant on {table} for select to sluice_app using (tenant_id = {ONE_TENANT})")
    for table in WRITTEN_BY_WORKER:
        op.execute(
            f"create policy batch_tenants on {table} to sluice_worker "
            f"using (tenant_id = any {BATCH_TENANTS}) with check (tenant_id = any {BATCH_TENANTS})"
        )
    for table in MANAGED_BY_AUTH:
        op.execute(f"create policy all_tenants on {table} to sluice_auth using (true) with check (true)")
    for table in BUMPING:
        op.execute(
            f"create trigger bump_control_version after insert or update or delete or truncate on {table} "
            "for each statement execute function bump_control_version()"
        )
    execute_script(GRANTS)
