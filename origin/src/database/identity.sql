-- Who may do what: projects, the accounts of users and robots, members, and what tokens are signed with.
-- Yes and no are 1 and 0. Every change of a row that is shown outside counts up its version.

CREATE TABLE project (
    id                 {id},
    name               {text} NOT NULL UNIQUE,
    visibility         {text} NOT NULL,      -- private, public
    anonymous_networks {text} NOT NULL,      -- a JSON list: clients from there pull without a token
    version            BIGINT NOT NULL,
    created_at         BIGINT NOT NULL
);

-- What was pushed before there were projects: each first element of a name becomes a private one.
INSERT INTO project (name, visibility, anonymous_networks, version, created_at)
SELECT substr(name, 1, {instr}(name || '/', '/') - 1), 'private', '[]', 1, MIN(created_at)
FROM repository GROUP BY substr(name, 1, {instr}(name || '/', '/') - 1);

ALTER TABLE repository ADD COLUMN project_id BIGINT REFERENCES project (id);
UPDATE repository SET project_id =
    (SELECT p.id FROM project p WHERE p.name = substr(repository.name, 1, {instr}(repository.name || '/', '/') - 1));
CREATE INDEX repository_by_project ON repository (project_id);

CREATE TABLE account (
    id         {id},
    name       {text} NOT NULL UNIQUE,
    disabled   BIGINT NOT NULL,
    generation BIGINT NOT NULL,              -- counts what makes older tokens void
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE login (                         -- of an account that is a person's
    account_id BIGINT PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    email      {text},
    password   {text} NOT NULL,              -- argon2id, as a PHC string
    admin      BIGINT NOT NULL,
    auditor    BIGINT NOT NULL
);

CREATE TABLE robot (                         -- an account that is a program's
    account_id   BIGINT PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    project_id   BIGINT REFERENCES project (id),   -- none: of the system
    secret       {bytes} NOT NULL,           -- SHA-256 of it
    old_secret   {bytes},                    -- the one before, while both count
    old_until    BIGINT,
    expires_at   BIGINT,
    actions      {text} NOT NULL,            -- a JSON list: pull, push, delete
    networks     {text} NOT NULL             -- a JSON list; anywhere, where empty
);
CREATE INDEX robot_by_project ON robot (project_id);

CREATE TABLE member (
    project_id BIGINT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    account_id BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    role       {text} NOT NULL,              -- guest, developer, maintainer, owner
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, account_id)
);
CREATE INDEX member_by_account ON member (account_id);

-- Tokens that clients keep to get access tokens with, without keeping the password.
CREATE TABLE refresh_token (
    hash       {text} PRIMARY KEY,           -- SHA-256 of it, in hex
    account_id BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX refresh_token_by_account ON refresh_token (account_id, expires_at);
CREATE INDEX refresh_token_by_expiry ON refresh_token (expires_at);

-- Published before it signs, so that every node knows it by then, and kept until the last token it signed is over.
CREATE TABLE signing_key (
    id         {text} PRIMARY KEY,
    seed       {bytes} NOT NULL,
    signs_from BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
