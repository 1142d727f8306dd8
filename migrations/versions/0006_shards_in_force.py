"""Over how many shards a tenant is spread now, apart from what its plan wants: a change drains the old ones first."""

from migrations.script import execute_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SHARDS = """
alter table tenants
    add column shards integer not null default 1 check (shards between 1 and 64),
    add column drain_started_at timestamptz;
alter table tenants no force row level security;
update tenants t set shards = p.shards from plans p where p.plan_id = t.plan_id;
alter table tenants force row level security;
comment on column tenants.shards is 'in force; the plan''s is what is wanted';
comment on column tenants.drain_started_at is 'since then nothing new is taken, until the old shards are stored';

-- To place what is replayed as what was sent.
grant select (shards) on tenants to sluice_worker;
"""


def upgrade() -> None:
    execute_script(SHARDS)
