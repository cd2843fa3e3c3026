-- Python modules that sandboxes import while idle: a list of names.
ALTER TABLE templates ADD COLUMN IF NOT EXISTS preload_modules LONGTEXT NOT NULL DEFAULT ('[]');
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS preload_modules LONGTEXT NOT NULL DEFAULT ('[]');
