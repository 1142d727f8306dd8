"""Replays: sending stored events again, as jobs that can be paused, resumed and cancelled and survive a restart.

A tenant's jobs are written by the gateway under row security, and moved along as sluice_auth, which finds them
whosever they are. The events themselves are read as anybody reads them: one tenant a transaction.
"""

from alembic import op

from migrations.script import execute_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

REPLAYS = """
create table replays (
    tenant_id uuid not null references tenants,
    replay_id uuid not null default gen_random_uuid(),
    target text not null check (target in ('index', 'kafka', 'webhook', 'ndjson')),
    started_at timestamptz,
    ended_at timestamptz,
    event_type text collate "C",
    user_id text collate "C",
    events_per_second double precision check (events_per_second > 0),
    webhook_url text,
    webhook_secret bytea,
    requested_at timestamptz not null,
    state text not null default 'running' check (state in ('running', 'paused', 'cancelled', 'failed', 'done')),
    slot smallint not null check (slot > 0),
    total bigint not null check (total >= 0),
    total_estimated boolean not null,
    sent bigint not null default 0,
    refused bigint not null default 0,
    at_timestamp timestamptz,
    at_event_id text collate "C",
    moved_at timestamptz,
    rate double precision,
    attempts integer not null default 0,
    problem text,
    due_at timestamptz,
    turn_at timestamptz,
    lease uuid,
    leased_until timestamptz,
    finished_at timestamptz,
    primary key (tenant_id, replay_id),
    check ((target = 'webhook') = (webhook_url is not null)),
    check ((at_timestamp is null) = (at_event_id is null))
);
comment on column replays.requested_at is 'events received later are not part of it';
comment on column replays.slot is 'which of the tenant''s few places for unfinished replays it takes';
comment on column replays.webhook_secret is
    'nonce and AES-256-GCM under the key-encryption key, tenant and replay are the associated data; null once finished';
comment on column replays.refused is 'events that the target can never take';
comment on column replays.at_timestamp is 'with at_event_id: the last event that was sent; null: none yet';
comment on column replays.rate is 'events a second, lately';
comment on column replays.attempts is 'in vain, one after the other, since it last moved';
comment on column replays.due_at is 'not before: to keep a pace, or to wait after a fault';
comment on column replays.turn_at is 'when a worker last took it: whoever has waited longest is next';
comment on column replays.lease is 'with leased_until: the worker that is sending a piece of it';

create unique index replays_unfinished on replays (tenant_id, slot) where state in ('running', 'paused');
create index replays_by_request on replays (tenant_id, requested_at, replay_id);
create index replays_running on replays (turn_at) where state = 'running';
create index replays_finished on replays (finished_at) where finished_at is not null;
"""

GRANTS = """
-- The secret can be written, never read.
grant select (tenant_id, replay_id, target, started_at, ended_at, event_type, user_id, events_per_second, webhook_url,
              requested_at, state, slot, total, total_estimated, sent, refused, at_timestamp, at_event_id, moved_at,
              rate, attempts, problem, due_at, finished_at)
    on replays to sluice_app;
grant insert (tenant_id, replay_id, target, started_at, ended_at, event_type, user_id, events_per_second, webhook_url,
              webhook_secret, requested_at, slot, total, total_estimated)
    on replays to sluice_app;
grant update (state, sent, total, total_estimated, at_timestamp, at_event_id, moved_at, rate, attempts, problem, due_at,
              webhook_secret, finished_at)
    on replays to sluice_app;
grant select, insert, update, delete on replays to sluice_auth;
"""

ONE_TENANT = "(select nullif(current_setting('app.tenant_id', true), '')::uuid)"


def upgrade() -> None:
    execute_script(REPLAYS)
    op.execute("alter table replays enable row level security, force row level security")
    op.execute("create policy all_tenants on replays to sluice_auth using (true) with check (true)")
    op.execute(
        "create policy one_tenant on replays to sluice_app "
        f"using (tenant_id = {ONE_TENANT}) with check (tenant_id = {ONE_TENANT})"
    )
    execute_script(GRANTS)
