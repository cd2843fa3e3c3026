-- What sessions may connect to: a list of rules, empty for nothing.
ALTER TABLE sessions ADD COLUMN network TEXT NOT NULL DEFAULT '[]';
