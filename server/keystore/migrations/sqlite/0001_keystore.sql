-- The site: its own wrapped keys, the decoy that unknown AppKeys are checked against, and the
-- revision that every change of a document raises.
CREATE TABLE site (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    revision   INTEGER NOT NULL,
    site_keys  BLOB    NOT NULL,
    decoy_id   TEXT    NOT NULL,
    decoy_body BLOB    NOT NULL,
    decoy_mac  BLOB    NOT NULL
) STRICT;

-- Signed documents. `body` is what the MAC is over; every other column is an index on it, and is
-- compared with it after each read.
CREATE TABLE document (
    kind     TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    revision INTEGER NOT NULL UNIQUE,
    name     TEXT    NOT NULL,
    number   INTEGER,
    body     BLOB    NOT NULL,
    mac      BLOB    NOT NULL,
    PRIMARY KEY (kind, id),
    UNIQUE (kind, name),
    UNIQUE (kind, number)
) STRICT, WITHOUT ROWID;

-- Wrapped keys, a row for each version.
CREATE TABLE wrapped_key (
    uid     TEXT    NOT NULL,
    version INTEGER NOT NULL,
    blob    BLOB    NOT NULL,
    PRIMARY KEY (uid, version)
) STRICT, WITHOUT ROWID;
