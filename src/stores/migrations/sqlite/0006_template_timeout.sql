-- A template without a timeout follows DEFAULT_TIMEOUT, as the two of the first start do unless they were changed.
CREATE TABLE new_templates (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  image_url TEXT NOT NULL,
  runtime_type TEXT NOT NULL,
  default_cpu_cores REAL NOT NULL,
  default_memory_mb INTEGER NOT NULL,
  default_disk_mb INTEGER NOT NULL,
  default_timeout INTEGER,
  default_env_vars TEXT NOT NULL,
  warm_pool_size INTEGER NOT NULL,
  is_active INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  preload_modules TEXT NOT NULL DEFAULT '[]',
  network TEXT NOT NULL DEFAULT '[]'
) WITHOUT ROWID;
INSERT INTO new_templates SELECT id, name, image_url, runtime_type, default_cpu_cores, default_memory_mb, default_disk_mb,
  default_timeout, default_env_vars, warm_pool_size, is_active, created_at, updated_at, preload_modules, network FROM templates;
DROP TABLE templates;
ALTER TABLE new_templates RENAME TO templates;
CREATE UNIQUE INDEX templates_name ON templates (name);
UPDATE templates SET default_timeout = NULL WHERE id IN ('python-basic', 'nodejs-basic') AND default_timeout = 300 AND updated_at = created_at;
