"""Whether the search index is being built again or repaired: then nothing is deleted from it behind that one's back.

Whoever does it is told apart by an id, so that one that was taken for dead finds out before it changes anything.
"""

from migrations.script import execute_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

REBUILDS = """
create table search_rebuilds (
    only_row boolean primary key default true check (only_row),
    rebuild_id uuid not null,
    started_at timestamptz not null default now(),
    alive_at timestamptz not null default now()
);
comment on table search_rebuilds is 'none: nothing is being rebuilt';
comment on column search_rebuilds.alive_at is 'not for a minute: it is what a killed rebuild has left';
"""

GRANTS = """
grant select, insert, update, delete on search_rebuilds to sluice_worker;
grant select on search_rebuilds to sluice_auth;
"""


def upgrade() -> None:
    execute_script(REBUILDS)
    execute_script(GRANTS)
