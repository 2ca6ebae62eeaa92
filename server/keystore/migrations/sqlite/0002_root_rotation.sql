-- The last root rotation. While it is under way: the old root key, wrapped under the new one, so that the
-- new cards alone can end it. Afterwards: that it is over, for managers that have not seen its end.
CREATE TABLE root_rotation (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    old_root TEXT    NOT NULL,
    new_root TEXT    NOT NULL CHECK (new_root <> old_root),
    wrapped  BLOB    NOT NULL,
    done     INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1))
) STRICT;
