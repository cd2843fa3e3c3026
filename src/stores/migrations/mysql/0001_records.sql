-- Every statement can run again, as a start that was cut off leaves some of them done. Texts compare by their bytes,
-- trailing spaces included. Instants are ISO 8601 texts in UTC.
CREATE TABLE IF NOT EXISTS templates (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  name VARCHAR(255) NOT NULL,
  image_url VARCHAR(512) NOT NULL,
  runtime_type VARCHAR(64) NOT NULL,
  default_cpu_cores DOUBLE NOT NULL,
  default_memory_mb INT NOT NULL,
  default_disk_mb INT NOT NULL,
  default_timeout INT NOT NULL,
  default_env_vars LONGTEXT NOT NULL,
  warm_pool_size INT NOT NULL,
  is_active TINYINT NOT NULL,
  created_at VARCHAR(32) NOT NULL,
  updated_at VARCHAR(32) NOT NULL,
  UNIQUE KEY templates_name (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;

-- seq is the order of creation, which every index carries behind its columns.
CREATE TABLE IF NOT EXISTS sessions (
  seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  id VARCHAR(64) NOT NULL,
  tenant VARCHAR(255) NOT NULL,
  template_id VARCHAR(64) NOT NULL,
  status VARCHAR(16) NOT NULL,
  lease_owner VARCHAR(320),
  lease_expires_at VARCHAR(32),
  expires_at VARCHAR(32) NOT NULL,
  last_activity_at VARCHAR(32) NOT NULL,
  updated_at VARCHAR(32) NOT NULL,
  cpu VARCHAR(64) NOT NULL,
  memory VARCHAR(64) NOT NULL,
  disk VARCHAR(64) NOT NULL,
  max_processes INT NOT NULL,
  workspace_path TEXT NOT NULL,
  language_runtime VARCHAR(64) NOT NULL,
  runtime_type VARCHAR(64) NOT NULL,
  runtime_node VARCHAR(255),
  container_id VARCHAR(255),
  pod_name VARCHAR(255),
  env_vars LONGTEXT NOT NULL,
  timeout INT NOT NULL,
  python_package_index_url TEXT,
  requested_dependencies LONGTEXT NOT NULL,
  installed_dependencies LONGTEXT NOT NULL,
  dependency_install_status VARCHAR(16) NOT NULL,
  dependency_install_error LONGTEXT,
  dependency_install_started_at VARCHAR(32),
  dependency_install_completed_at VARCHAR(32),
  fail_on_dependency_error TINYINT NOT NULL,
  install_timeout INT NOT NULL,
  error_message LONGTEXT,
  created_at VARCHAR(32) NOT NULL,
  completed_at VARCHAR(32),
  image_url VARCHAR(512) NOT NULL,
  UNIQUE KEY sessions_id (id),
  KEY sessions_tenant (tenant),
  KEY sessions_tenant_status (tenant, status),
  KEY sessions_tenant_template (tenant, template_id),
  KEY sessions_status (status, id),
  KEY sessions_template (template_id, status),
  KEY sessions_deadline (status, expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;

-- What changes while an execution runs; the large texts, which are written once each, have tables of their own.
CREATE TABLE IF NOT EXISTS executions (
  seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  id VARCHAR(64) NOT NULL,
  session_id VARCHAR(64) NOT NULL,
  tenant VARCHAR(255) NOT NULL,
  status VARCHAR(16) NOT NULL,
  lease_owner VARCHAR(320),
  lease_expires_at VARCHAR(32),
  language VARCHAR(16) NOT NULL,
  timeout DOUBLE NOT NULL,
  exit_code BIGINT,
  reason VARCHAR(64),
  error_message LONGTEXT,
  execution_time DOUBLE,
  stdout_bytes BIGINT NOT NULL,
  stderr_bytes BIGINT NOT NULL,
  stdout_truncated TINYINT NOT NULL,
  stderr_truncated TINYINT NOT NULL,
  artifacts LONGTEXT NOT NULL,
  metrics LONGTEXT,
  env_vars LONGTEXT NOT NULL,
  retry_count INT NOT NULL,
  created_at VARCHAR(32) NOT NULL,
  started_at VARCHAR(32),
  completed_at VARCHAR(32),
  idempotency_key VARCHAR(255),
  last_seq BIGINT,
  journaled TINYINT NOT NULL,
  timing LONGTEXT NOT NULL,
  UNIQUE KEY executions_id (id),
  UNIQUE KEY executions_idempotency (session_id, idempotency_key),
  KEY executions_session (session_id),
  KEY executions_session_status (session_id, status),
  KEY executions_tenant_status (tenant, status),
  KEY executions_status (status),
  CONSTRAINT executions_of_session FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS execution_inputs (
  seq BIGINT NOT NULL PRIMARY KEY,
  code LONGTEXT NOT NULL DEFAULT '',
  event LONGTEXT,
  stdin LONGTEXT NOT NULL DEFAULT '',
  CONSTRAINT inputs_of_execution FOREIGN KEY (seq) REFERENCES executions (seq) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;

-- No row while there is no output.
CREATE TABLE IF NOT EXISTS execution_outputs (
  seq BIGINT NOT NULL PRIMARY KEY,
  stdout LONGTEXT,
  stderr LONGTEXT,
  return_value LONGTEXT,
  CONSTRAINT outputs_of_execution FOREIGN KEY (seq) REFERENCES executions (seq) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS api_keys (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  tenant VARCHAR(255) NOT NULL,
  hash VARCHAR(128) NOT NULL,
  hint VARCHAR(64) NOT NULL,
  created_at VARCHAR(32) NOT NULL,
  last_used_at VARCHAR(32),
  revoked_at VARCHAR(32),
  UNIQUE KEY api_keys_hash (hash)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin;
