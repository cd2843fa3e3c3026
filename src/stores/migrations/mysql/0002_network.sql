-- What sessions may connect to: a list of rules, empty for nothing.
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS network LONGTEXT NOT NULL DEFAULT ('[]');
