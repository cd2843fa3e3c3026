-- Pods that are started ahead, until they are gone. A place in a pool and a session have one each.
CREATE TABLE IF NOT EXISTS warm_pods (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  pool VARCHAR(64) NOT NULL,
  template_id VARCHAR(64) NOT NULL,
  slot INT,
  session_id VARCHAR(64),
  created_at VARCHAR(32) NOT NULL,
  ready_at VARCHAR(32),
  UNIQUE KEY warm_pods_place (pool, slot),
  UNIQUE KEY warm_pods_session (session_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
