-- What the tokens of apps stand for that come over HTTP, by the token's SHA-256. An engine has signed each record.
CREATE TABLE token (
    hash    BLOB    NOT NULL PRIMARY KEY,
    app     BLOB    NOT NULL,
    record  BLOB    NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX token_app ON token (app, expires);
CREATE INDEX token_expires ON token (expires);
