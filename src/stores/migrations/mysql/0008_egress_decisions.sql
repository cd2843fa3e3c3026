-- What was decided about connections that sessions' code asked for.
CREATE TABLE IF NOT EXISTS egress_decisions (
  seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  session_id VARCHAR(64) NOT NULL,
  decision LONGTEXT NOT NULL,
  KEY egress_decisions_session (session_id, seq),
  CONSTRAINT decisions_of_session FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
