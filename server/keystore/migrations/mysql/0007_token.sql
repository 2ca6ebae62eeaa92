-- What the tokens of apps stand for that come over HTTP, by the token's SHA-256. An engine has signed each record.
CREATE TABLE IF NOT EXISTS token (
    hash    VARBINARY(32)   NOT NULL PRIMARY KEY,
    app     VARBINARY(64)   NOT NULL,
    record  VARBINARY(2048) NOT NULL,
    expires BIGINT          NOT NULL,
    KEY token_app (app, expires),
    KEY token_expires (expires)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
