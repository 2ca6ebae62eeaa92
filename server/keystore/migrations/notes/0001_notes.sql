-- Whose chain this process writes, and how far it went when it was last heard of.
CREATE TABLE chain (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    writer   TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    hash     BLOB    NOT NULL,
    at       INTEGER NOT NULL
) STRICT;

-- What is to become a record. A number is never given twice.
CREATE TABLE note (
    number  INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    refusal INTEGER NOT NULL CHECK (refusal IN (0, 1)),
    at      INTEGER NOT NULL,
    event   BLOB    NOT NULL
) STRICT;
