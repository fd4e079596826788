"""Alembic's entry: it runs the revisions on the connection that ``vault.store.schema`` hands in, and on no other."""

from alembic import context

from vault.store.tables import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="schema_revision",
    version_table_schema=SCHEMA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
