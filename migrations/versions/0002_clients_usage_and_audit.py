"""Secrets that overlap, narrowed clients, revocations, usage against quotas, the audit log, deletion of tenants.

What a tenant manages itself (clients, secrets) the gateway's own role writes under row security, one tenant a
transaction. Exact usage is the store worker's to write, the rest of it sluice_auth's: neither can write the other's
columns. Nobody, the owner included, can change or remove an entry of the audit log.
"""

from alembic import op

from migrations.script import execute_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PLANS = """
alter table plans
    add column monthly_quota bigint check (monthly_quota > 0),
    add column at_quota text not null default 'warn' check (at_quota in ('refuse', 'warn'));
comment on column plans.monthly_quota is 'events stored per calendar month (UTC); null: no quota';
update plans set monthly_quota = 1000000, at_quota = 'refuse' where plan_id = 'free';
update plans set monthly_quota = 200000000 where plan_id = 'standard';

alter table tenants drop constraint tenants_status_check;
alter table tenants add constraint tenants_status_check
    check (status in ('active', 'suspended', 'deleting', 'deleted'));
comment on column tenants.status is
    'deleted: nothing but the id is left, so that what Kafka still holds is known to belong to nobody';
"""

CLIENTS = """
create table client_secrets (
    tenant_id uuid not null,
    client_id text collate "C" not null,
    secret_id uuid not null default gen_random_uuid(),
    secret_hash bytea not null check (length(secret_hash) = 32),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    primary key (tenant_id, client_id, secret_id),
    foreign key (tenant_id, client_id) references oauth_clients
);
comment on column client_secrets.expires_at is 'null: until it is replaced or the client revoked';

-- The owner is under row security too, and has no policy.
alter table oauth_clients no force row level security;
insert into client_secrets (tenant_id, client_id, secret_hash, created_at)
select tenant_id, client_id, secret_hash, created_at from oauth_clients;
alter table oauth_clients force row level security;

alter table oauth_clients
    drop column secret_hash,
    add column networks cidr[] not null default '{}',
    add column jwks jsonb,
    add column events_per_second double precision check (events_per_second > 0),
    add column burst integer check (burst > 0),
    add constraint a_bucket_has_both check ((events_per_second is null) = (burst is null));
-- What every process reads, however many were revoked.
create index oauth_clients_active on oauth_clients (tenant_id, client_id) where revoked_at is null;
comment on column oauth_clients.networks is 'empty: may call from anywhere';
comment on column oauth_clients.jwks is 'public keys of private_key_jwt; such a client has no secret';
comment on column oauth_clients.burst is 'with events_per_second: a bucket of its own within the tenant''s';

-- Apart from oauth_clients, whose every change makes all processes read all clients again.
create table client_uses (
    tenant_id uuid not null,
    client_id text collate "C" not null,
    credential text collate "C" not null,
    last_used_at timestamptz not null,
    primary key (tenant_id, client_id, credential),
    foreign key (tenant_id, client_id) references oauth_clients
);
comment on column client_uses.credential is 'a secret_id, or the kid of a key in jwks';

create table client_assertions (
    tenant_id uuid not null,
    client_id text collate "C" not null,
    jti text collate "C" not null,
    expires_at timestamptz not null,
    primary key (tenant_id, client_id, jti),
    foreign key (tenant_id, client_id) references oauth_clients
);
comment on table client_assertions is 'assertions that were used (RFC 7523 section 3), until they expire';
create index client_assertions_expired on client_assertions (expires_at);

create table token_revocations (
    tenant_id uuid not null references tenants,
    jti text collate "C" not null,
    expires_at timestamptz not null,
    version bigint not null,
    primary key (tenant_id, jti)
);
comment on column token_revocations.version is 'control_version.revocations after it: what a process has yet to read';
create index token_revocations_version on token_revocations (version);

alter table control_version add column revocations bigint not null default 0;

-- The one row is locked until the commit, so that versions become visible in their order.
create function number_token_revocation() returns trigger language plpgsql security definer
set search_path = pg_catalog, public as $$
begin
    update public.control_version set revocations = revocations + 1 returning revocations into new.version;
    return new;
end $$;
revoke all on function number_token_revocation() from public;
create trigger number_token_revocation before insert on token_revocations
    for each row execute function number_token_revocation();
"""

USAGE = """
create table usage (
    tenant_id uuid not null,
    hour timestamptz not null,
    client_id text collate "C" not null,
    stored bigint not null default 0 check (stored >= 0),
    duplicates bigint not null default 0 check (duplicates >= 0),
    bytes bigint not null default 0 check (bytes >= 0),
    rejected bigint not null default 0 check (rejected >= 0),
    throttled bigint not null default 0 check (throttled >= 0),
    primary key (tenant_id, hour, client_id)
);
comment on column usage.hour is 'in which events were received (stored, duplicates, bytes) or refused (the others)';
comment on column usage.bytes is
    'of what was stored: octets of event_id, event_type, user_id and of metadata as PostgreSQL writes it';
comment on column usage.rejected is 'best effort, as throttled: counted by gateways in memory, written now and then';

create table monthly_usage (
    tenant_id uuid not null,
    month date not null,
    stored bigint not null check (stored >= 0),
    primary key (tenant_id, month)
);
comment on table monthly_usage is 'what quotas are compared with: events stored, by the UTC month of their receipt';

-- Of what is stored already. The owner is under row security too, and has no policy.
alter table events no force row level security;
insert into usage (tenant_id, hour, client_id, stored, bytes)
select tenant_id, date_trunc('hour', received_at, 'UTC'), client_id, count(*),
       sum(octet_length(event_id) + octet_length(event_type) + coalesce(octet_length(user_id), 0)
           + octet_length(metadata::text))
from events group by 1, 2, 3;
insert into monthly_usage (tenant_id, month, stored)
select tenant_id, date_trunc('month', hour at time zone 'UTC')::date, sum(stored) from usage group by 1, 2;
alter table events force row level security;

create table quota_notices (
    tenant_id uuid not null,
    month date not null,
    percent smallint not null check (percent in (80, 100)),
    quota bigint not null check (quota > 0),
    reached_at timestamptz not null default now(),
    primary key (tenant_id, month, percent, quota)
);
comment on column quota_notices.quota is 'as it was then: with a larger one the same percentage is news again';
"""

AUDIT = """
create table audit_log (
    tenant_id uuid not null references tenants,
    audit_id uuid not null default gen_random_uuid(),
    at timestamptz not null default clock_timestamp(),
    actor_kind text not null check (actor_kind in ('client', 'platform', 'operator', 'worker')),
    actor text not null,
    action text not null,
    subject text not null,
    detail jsonb not null default '{}',
    address inet,
    request_id text,
    primary key (tenant_id, audit_id)
);
comment on column audit_log.actor is
    'client_id of a client (kind client: the tenant''s; platform: an administrator''s), or who typed the command';
comment on column audit_log.at is 'not the start of the transaction: entries of one are in their order';
create index audit_log_by_time on audit_log (tenant_id, at, audit_id);
create index audit_log_of_all on audit_log (at, audit_id);

create function keep_audit_log() returns trigger language plpgsql
set search_path = pg_catalog as $$
begin
    raise exception 'an entry of the audit log is never changed or removed' using errcode = 'insufficient_privilege';
end $$;
revoke all on function keep_audit_log() from public;
create trigger keep_audit_log before update or delete or truncate on audit_log
    for each statement execute function keep_audit_log();

create table tenant_deletions (
    tenant_id uuid primary key references tenants,
    requested_at timestamptz not null default now(),
    step text not null default 'requested',
    total bigint,
    deleted jsonb not null default '{}',
    kafka_until timestamptz,
    finished_at timestamptz,
    problem text
);
comment on column tenant_deletions.deleted is 'rows and documents removed so far, by place';
comment on column tenant_deletions.kafka_until is 'when retention has removed the log''s copy';
"""

GRANTS = """
grant select (tenant_id, client_id, name, scopes, created_at, revoked_at, networks, jwks, events_per_second, burst)
    on oauth_clients to sluice_app;
grant insert (tenant_id, client_id, name, scopes, networks, jwks, events_per_second, burst)
    on oauth_clients to sluice_app;
grant update (name, scopes, revoked_at, networks, jwks, events_per_second, burst) on oauth_clients to sluice_app;
grant select (tenant_id, client_id, secret_id, created_at, expires_at) on client_secrets to sluice_app;
grant insert (tenant_id, client_id, secret_id, secret_hash, expires_at) on client_secrets to sluice_app;
grant update (expires_at), delete on client_secrets to sluice_app;
grant select on client_uses, usage, monthly_usage, quota_notices, audit_log to sluice_app;
-- When an entry was made is PostgreSQL's to say.
grant insert (tenant_id, actor_kind, actor, action, subject, detail, address, request_id)
    on audit_log to sluice_app, sluice_auth;

grant select, insert, update, delete on client_secrets, client_uses, client_assertions to sluice_auth;
grant select, insert, delete on token_revocations to sluice_auth;
grant delete on oauth_clients, signing_keys to sluice_auth;
grant insert, update, delete on plans to sluice_auth;
grant select on usage, monthly_usage, quota_notices to sluice_auth;
grant insert (tenant_id, hour, client_id, rejected, throttled), update (rejected, throttled) on usage to sluice_auth;
grant select on audit_log to sluice_auth;
grant select, insert, update on tenant_deletions to sluice_auth;

grant select (tenant_id, plan_id, status) on tenants to sluice_worker;
grant select on plans to sluice_worker;
grant select, delete on usage, monthly_usage, quota_notices to sluice_worker;
grant insert (tenant_id, hour, client_id, stored, duplicates, bytes), update (stored, duplicates, bytes)
    on usage to sluice_worker;
grant insert, update on monthly_usage to sluice_worker;
grant insert on quota_notices to sluice_worker;
grant delete on events, aggregated_events, dead_letters to sluice_worker;
grant select (tenant_id, deleted), update (deleted) on tenant_deletions to sluice_worker;
"""

ONE_TENANT = "(select nullif(current_setting('app.tenant_id', true), '')::uuid)"
BATCH_TENANTS = "((select nullif(current_setting('app.tenant_ids', true), '')::uuid[])::uuid[])"

TENANT_TABLES = (
    "client_secrets", "client_uses", "client_assertions", "token_revocations", "usage", "monthly_usage",
    "quota_notices", "audit_log", "tenant_deletions",
)  # fmt: skip
OF_APP = (
    "oauth_clients", "client_secrets", "client_uses", "usage", "monthly_usage", "quota_notices", "audit_log",
)  # fmt: skip
OF_WORKER = ("usage", "monthly_usage", "quota_notices", "tenant_deletions")
BUMPING = ("quota_notices",)


def upgrade() -> None:
    for script in (PLANS, CLIENTS, USAGE, AUDIT):
        execute_script(script)
    for table in TENANT_TABLES:
        op.execute(f"alter table {table} enable row level security, force row level security")
        op.execute(f"create policy all_tenants on {table} to sluice_auth using (true) with check (true)")
    for table in OF_APP:
        # What the gateway does for a tenant, it does for one of its clients, and can't say that it was another.
        also = " and actor_kind = 'client'" if table == "audit_log" else ""
        op.execute(
            f"create policy one_tenant on {table} to sluice_app "
            f"using (tenant_id = {ONE_TENANT}) with check (tenant_id = {ONE_TENANT}{also})"
        )
    for table in OF_WORKER:
        op.execute(
            f"create policy batch_tenants on {table} to sluice_worker "
            f"using (tenant_id = any {BATCH_TENANTS}) with check (tenant_id = any {BATCH_TENANTS})"
        )
    for table in BUMPING:
        op.execute(
            f"create trigger bump_control_version after insert or update or delete or truncate on {table} "
            "for each statement execute function bump_control_version()"
        )
    execute_script(GRANTS)
