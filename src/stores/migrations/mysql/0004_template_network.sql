-- What sessions of a template may connect to unless they say otherwise: a list of rules, empty for nothing.
ALTER TABLE templates ADD COLUMN IF NOT EXISTS network LONGTEXT NOT NULL DEFAULT ('[]');
