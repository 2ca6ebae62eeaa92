-- A root rotation that is under way: the old root key, wrapped under the new one, so that the new cards
-- alone can end it.
CREATE TABLE root_rotation (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    old_root TEXT    NOT NULL,
    new_root TEXT    NOT NULL,
    wrapped  BLOB    NOT NULL
) STRICT;
