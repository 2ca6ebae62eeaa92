-- The newest revision of each document that was seen and verified here.
CREATE TABLE mark (
    kind     TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- The newest document of the whole keystore that was seen, and the site that it belongs to.
CREATE TABLE newest (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    site     TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    mac      BLOB    NOT NULL
) STRICT;
