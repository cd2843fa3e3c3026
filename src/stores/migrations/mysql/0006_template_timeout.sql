-- A template without a timeout follows DEFAULT_TIMEOUT, as the two of the first start do unless they were changed.
ALTER TABLE templates MODIFY default_timeout INT;
UPDATE templates SET default_timeout = NULL WHERE id IN ('python-basic', 'nodejs-basic') AND default_timeout = 300 AND updated_at = created_at;
