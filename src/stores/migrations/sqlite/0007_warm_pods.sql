-- Pods that are started ahead, until they are gone. A place in a pool and a session have one each.
CREATE TABLE warm_pods (
  name TEXT NOT NULL PRIMARY KEY,
  pool TEXT NOT NULL,
  template_id TEXT NOT NULL,
  slot INTEGER,
  session_id TEXT,
  created_at TEXT NOT NULL,
  ready_at TEXT
) WITHOUT ROWID;
CREATE UNIQUE INDEX warm_pods_place ON warm_pods (pool, slot);
CREATE UNIQUE INDEX warm_pods_session ON warm_pods (session_id);
