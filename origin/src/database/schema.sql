-- One schema for SQLite and PostgreSQL. {id}, {text} and {bytes} stand for what the two call differently (migrate.rs).
-- Times are milliseconds since the epoch. Text compares bytewise in both.

CREATE TABLE repository (
    id         {id},
    name       {text} NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

-- Every object of the store that was ever begun and is not yet known to be deleted. The row is written before the
-- object is, so that a crash leaves no object that nobody knows of.
CREATE TABLE object (
    name       {text} PRIMARY KEY,
    state      {text} NOT NULL,          -- writing, kept, garbage
    multipart  {text},                   -- what an unfinished multipart upload is called in the store
    touched_at BIGINT NOT NULL           -- while it is written: of the last sign of life
);
CREATE INDEX object_by_state ON object (state, touched_at);

CREATE TABLE blob (
    id         {id},
    digest     {text} NOT NULL UNIQUE,
    size       BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    touched_at BIGINT NOT NULL           -- of the last link or push: the grace period counts from here
);

-- The objects that make up a blob, in order.
CREATE TABLE blob_part (
    blob_id BIGINT NOT NULL REFERENCES blob (id) ON DELETE CASCADE,
    ordinal BIGINT NOT NULL,
    object  {text} NOT NULL REFERENCES object (name),
    size    BIGINT NOT NULL,
    PRIMARY KEY (blob_id, ordinal)
);
CREATE INDEX blob_part_by_object ON blob_part (object);

-- A blob is served only under a repository that links it.
CREATE TABLE blob_link (
    repository_id  BIGINT NOT NULL REFERENCES repository (id),
    blob_id        BIGINT NOT NULL REFERENCES blob (id),
    touched_at     BIGINT NOT NULL,      -- of the last push or reference: the grace period counts from here
    quarantined_at BIGINT,               -- hidden since then, and removed when the quarantine is over
    PRIMARY KEY (repository_id, blob_id)
);
CREATE INDEX blob_link_by_blob ON blob_link (blob_id);
CREATE INDEX blob_link_by_touch ON blob_link (touched_at);

CREATE TABLE upload (
    id            {text} PRIMARY KEY,
    repository_id BIGINT NOT NULL REFERENCES repository (id),
    algorithm     {text} NOT NULL,
    hash_state    {bytes} NOT NULL,      -- the running digest of all parts
    size          BIGINT NOT NULL,
    version       BIGINT NOT NULL,       -- counts the parts; every change compares and sets it
    touched_at    BIGINT NOT NULL
);
CREATE INDEX upload_by_touch ON upload (touched_at);

CREATE TABLE upload_part (
    upload_id {text} NOT NULL REFERENCES upload (id) ON DELETE CASCADE,
    ordinal   BIGINT NOT NULL,
    object    {text} NOT NULL REFERENCES object (name),
    size      BIGINT NOT NULL,
    PRIMARY KEY (upload_id, ordinal)
);
CREATE INDEX upload_part_by_object ON upload_part (object);

CREATE TABLE manifest (
    id            {id},
    repository_id BIGINT NOT NULL REFERENCES repository (id),
    digest        {text} NOT NULL,
    media_type    {text} NOT NULL,
    artifact_type {text},                -- as the referrers listing shows it
    subject       {text},
    annotations   {text},                -- a JSON object, where there are any
    bytes         {bytes} NOT NULL,
    size          BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    UNIQUE (repository_id, digest)
);
CREATE INDEX manifest_by_subject ON manifest (repository_id, subject, digest);

-- What keeps a link alive. The second key makes it impossible to remove a link that a manifest needs.
CREATE TABLE manifest_blob (
    manifest_id   BIGINT NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    repository_id BIGINT NOT NULL,
    blob_id       BIGINT NOT NULL,
    PRIMARY KEY (manifest_id, blob_id),
    FOREIGN KEY (repository_id, blob_id) REFERENCES blob_link (repository_id, blob_id)
);
CREATE INDEX manifest_blob_by_link ON manifest_blob (repository_id, blob_id);

CREATE TABLE tag (
    repository_id BIGINT NOT NULL REFERENCES repository (id),
    name          {text} NOT NULL,
    manifest_id   BIGINT NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    updated_at    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, name)
);
CREATE INDEX tag_by_manifest ON tag (manifest_id);

-- Work that one node at a time does.
CREATE TABLE lease (
    name       {text} PRIMARY KEY,
    holder     {text} NOT NULL,
    expires_at BIGINT NOT NULL
);
