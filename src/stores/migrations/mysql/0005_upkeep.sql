-- Work that one process at a time does now and then: whose turn it is or was, and when it is due again.
CREATE TABLE IF NOT EXISTS upkeep (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  owner VARCHAR(320) NOT NULL,
  not_before VARCHAR(32) NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
