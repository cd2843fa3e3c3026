-- What was decided about connections that sessions' code asked for.
CREATE TABLE egress_decisions (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  decision TEXT NOT NULL
);
CREATE INDEX egress_decisions_session ON egress_decisions (session_id, seq);
