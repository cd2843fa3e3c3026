-- Work that one process at a time does now and then: whose turn it is or was, and when it is due again.
CREATE TABLE upkeep (
  name TEXT NOT NULL PRIMARY KEY,
  owner TEXT NOT NULL,
  not_before TEXT NOT NULL
) WITHOUT ROWID;
