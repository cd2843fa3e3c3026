-- Python modules that sandboxes import while idle: a list of names.
ALTER TABLE templates ADD COLUMN preload_modules TEXT NOT NULL DEFAULT '[]';
ALTER TABLE sessions ADD COLUMN preload_modules TEXT NOT NULL DEFAULT '[]';
