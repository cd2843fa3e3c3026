CREATE TABLE templates (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  image_url TEXT NOT NULL,
  runtime_type TEXT NOT NULL,
  default_cpu_cores REAL NOT NULL,
  default_memory_mb INTEGER NOT NULL,
  default_disk_mb INTEGER NOT NULL,
  default_timeout INTEGER NOT NULL,
  default_env_vars TEXT NOT NULL,
  warm_pool_size INTEGER NOT NULL,
  is_active INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX templates_name ON templates (name);

-- seq is the order of creation, which every index carries behind its columns.
CREATE TABLE sessions (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  tenant TEXT NOT NULL,
  template_id TEXT NOT NULL,
  status TEXT NOT NULL,
  lease_owner TEXT,
  lease_expires_at TEXT,
  expires_at TEXT NOT NULL,
  last_activity_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  cpu TEXT NOT NULL,
  memory TEXT NOT NULL,
  disk TEXT NOT NULL,
  max_processes INTEGER NOT NULL,
  workspace_path TEXT NOT NULL,
  language_runtime TEXT NOT NULL,
  runtime_type TEXT NOT NULL,
  runtime_node TEXT,
  container_id TEXT,
  pod_name TEXT,
  env_vars TEXT NOT NULL,
  timeout INTEGER NOT NULL,
  python_package_index_url TEXT,
  requested_dependencies TEXT NOT NULL,
  installed_dependencies TEXT NOT NULL,
  dependency_install_status TEXT NOT NULL,
  dependency_install_error TEXT,
  dependency_install_started_at TEXT,
  dependency_install_completed_at TEXT,
  fail_on_dependency_error INTEGER NOT NULL,
  install_timeout INTEGER NOT NULL,
  error_message TEXT,
  created_at TEXT NOT NULL,
  completed_at TEXT,
  image_url TEXT NOT NULL
);
CREATE UNIQUE INDEX sessions_id ON sessions (id);
CREATE INDEX sessions_tenant ON sessions (tenant);
CREATE INDEX sessions_tenant_status ON sessions (tenant, status);
CREATE INDEX sessions_tenant_template ON sessions (tenant, template_id);
CREATE INDEX sessions_status ON sessions (status, id);
CREATE INDEX sessions_template ON sessions (template_id, status);
CREATE INDEX sessions_deadline ON sessions (expires_at) WHERE status IN ('creating', 'running');

-- What changes while an execution runs; the large texts, which are written once each, have tables of their own.
CREATE TABLE executions (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  tenant TEXT NOT NULL,
  status TEXT NOT NULL,
  lease_owner TEXT,
  lease_expires_at TEXT,
  language TEXT NOT NULL,
  timeout INTEGER NOT NULL,
  exit_code INTEGER,
  reason TEXT,
  error_message TEXT,
  execution_time REAL,
  stdout_bytes INTEGER NOT NULL,
  stderr_bytes INTEGER NOT NULL,
  stdout_truncated INTEGER NOT NULL,
  stderr_truncated INTEGER NOT NULL,
  artifacts TEXT NOT NULL,
  metrics TEXT,
  env_vars TEXT NOT NULL,
  retry_count INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  started_at TEXT,
  completed_at TEXT,
  idempotency_key TEXT,
  last_seq INTEGER,
  journaled INTEGER NOT NULL,
  timing TEXT NOT NULL
);
CREATE UNIQUE INDEX executions_id ON executions (id);
CREATE INDEX executions_session ON executions (session_id);
CREATE UNIQUE INDEX executions_idempotency ON executions (session_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX executions_live ON executions (session_id, tenant) WHERE status IN ('pending', 'running');

CREATE TABLE execution_inputs (
  seq INTEGER PRIMARY KEY REFERENCES executions (seq) ON DELETE CASCADE,
  code TEXT NOT NULL,
  event TEXT,
  stdin TEXT NOT NULL
);

-- No row while there is no output.
CREATE TABLE execution_outputs (
  seq INTEGER PRIMARY KEY REFERENCES executions (seq) ON DELETE CASCADE,
  stdout TEXT,
  stderr TEXT,
  return_value TEXT
);

CREATE TABLE api_keys (
  name TEXT NOT NULL PRIMARY KEY,
  tenant TEXT NOT NULL,
  hash TEXT NOT NULL,
  hint TEXT NOT NULL,
  created_at TEXT NOT NULL,
  last_used_at TEXT,
  revoked_at TEXT
) WITHOUT ROWID;
CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash);
