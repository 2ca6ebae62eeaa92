-- When the manager has something to do about a document: rotate a key, destroy a version.
ALTER TABLE document ADD COLUMN due INTEGER;
CREATE INDEX document_due ON document (due) WHERE due IS NOT NULL;

-- Closed to suites whose messages are counted, since the database was put back from a backup.
ALTER TABLE wrapped_key ADD COLUMN closed INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1));

-- What was sealed before this was counted by nobody.
UPDATE wrapped_key SET closed = 1;

-- Messages that gateways have reserved, for suites whose nonces are short. Never too low.
CREATE TABLE key_usage (
    uid      TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    suite    INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    worn     INTEGER NOT NULL DEFAULT 0 CHECK (worn IN (0, 1)),
    PRIMARY KEY (uid, version, suite)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_usage_worn ON key_usage (worn) WHERE worn = 1;
