"""Dead letters that a tenant can see, send again, edit or discard, and the copy of each on a Kafka topic.

What the worker wrote down stays; `retry_payload` is what a tenant made of it. A tenant changes what becomes of its
letters and nothing of what they say went wrong. Which letters are due sluice_auth finds, without seeing their content.
"""

from alembic import op

from migrations.script import execute_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DEAD_LETTERS = """
alter table dead_letters
    add column worker text not null default 'store' check (worker in ('store', 'index')),
    add column status text not null default 'open'
        check (status in ('open', 'queued', 'sent', 'resolved', 'discarded')),
    add column attempts integer not null default 1 check (attempts > 0),
    add column event_id text collate "C",
    add column event_type text collate "C",
    add column user_id text collate "C",
    add column client_id text collate "C",
    add column received_at timestamptz,
    add column retry_payload bytea,
    add column changed_at timestamptz not null default now(),
    add column copied_at timestamptz;
comment on column dead_letters.worker is 'which could not handle it';
comment on column dead_letters.status is
    'open: nothing was done; queued: to be tried again; sent: under way again; resolved: handled after all';
comment on column dead_letters.event_id is
    'as event_type and user_id: of the event as it would be sent now; null: unknown, or nothing that can be a column';
comment on column dead_letters.retry_payload is 'the event that is sent in place of that in payload; null: as it is';
comment on column dead_letters.copied_at is 'when Kafka''s dead-letter topic had acknowledged the copy';
create index dead_letters_by_time on dead_letters (tenant_id, created_at, dead_letter_id);
create index dead_letters_of_user on dead_letters (tenant_id, user_id) where user_id is not null;
create index dead_letters_by_status on dead_letters (status, changed_at);
create index dead_letters_not_copied on dead_letters (created_at) where copied_at is null;
"""

GRANTS = """
grant select on dead_letters to sluice_app;
grant update (status, retry_payload, event_id, event_type, user_id, changed_at) on dead_letters to sluice_app;

grant update (status, reason, detail, attempts, retry_payload, event_id, event_type, user_id, changed_at, copied_at)
    on dead_letters to sluice_worker;
-- What an operator's command does to a tenant's dead letters is audited in the same transaction, as this role.
grant insert (tenant_id, actor_kind, actor, action, subject, detail, address, request_id) on audit_log to sluice_worker;

grant select (tenant_id, dead_letter_id, worker, status, created_at, changed_at, copied_at)
    on dead_letters to sluice_auth;
"""

ONE_TENANT = "(select nullif(current_setting('app.tenant_id', true), '')::uuid)"
BATCH_TENANTS = "((select nullif(current_setting('app.tenant_ids', true), '')::uuid[])::uuid[])"


def upgrade() -> None:
    execute_script(DEAD_LETTERS)
    op.execute(
        "create policy one_tenant on dead_letters to sluice_app "
        f"using (tenant_id = {ONE_TENANT}) with check (tenant_id = {ONE_TENANT})"
    )
    op.execute("create policy all_tenants on dead_letters for select to sluice_auth using (true)")
    op.execute(
        "create policy batch_tenants on audit_log for insert to sluice_worker "
        f"with check (tenant_id = any {BATCH_TENANTS} and actor_kind in ('operator', 'worker'))"
    )
    execute_script(GRANTS)
