-- The last root rotation. While it is under way: the old root key, wrapped under the new one, so that the
-- new cards alone can end it. Afterwards: that it is over, for managers that have not seen its end.
CREATE TABLE IF NOT EXISTS root_rotation (
    id       BIGINT         NOT NULL PRIMARY KEY CHECK (id = 1),
    old_root VARBINARY(64)  NOT NULL,
    new_root VARBINARY(64)  NOT NULL,
    wrapped  VARBINARY(255) NOT NULL,
    done     BIGINT         NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    CHECK (new_root <> old_root)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
