-- Audit records: a chain for each writer. `body` is what the MAC is over; every other column is an index on it.
CREATE TABLE audit (
    writer   TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    event    TEXT    NOT NULL,
    body     BLOB    NOT NULL,
    mac      BLOB    NOT NULL,
    PRIMARY KEY (writer, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_at ON audit (at);
