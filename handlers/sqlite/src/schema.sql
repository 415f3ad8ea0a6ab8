-- A history of events. Times are nanoseconds since 1970-01-01T00:00:00Z.
-- Read it through the view `history`, or join the tables you need.

CREATE TABLE hosts (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE kinds (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- One row for each container, so a name that becomes known late applies to all its events.
CREATE TABLE containers (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT,
    image TEXT,
    runtime TEXT NOT NULL
) STRICT;

CREATE TABLE labels (
    container INTEGER NOT NULL REFERENCES containers (key),
    label TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (container, label)
) STRICT, WITHOUT ROWID;

-- Narrow, so that a search without an index reads little.
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    kind INTEGER NOT NULL REFERENCES kinds (key),
    host INTEGER NOT NULL REFERENCES hosts (key),
    container INTEGER REFERENCES containers (key),
    target_container INTEGER REFERENCES containers (key),
    attribution TEXT,
    pid INTEGER,
    parent_pid INTEGER,
    start_time INTEGER,
    comm TEXT,
    uid INTEGER,
    executable TEXT,
    path TEXT,
    to_path TEXT,
    peer_address TEXT,
    peer_port INTEGER,
    exit_code INTEGER,
    error TEXT
) STRICT;

CREATE INDEX events_by_time ON events (time);
CREATE INDEX events_by_kind ON events (kind, time);
CREATE INDEX events_by_container ON events (container, time) WHERE container IS NOT NULL;
CREATE INDEX events_by_target ON events (target_container) WHERE target_container IS NOT NULL;
CREATE INDEX events_by_pid ON events (pid, time) WHERE pid IS NOT NULL;

-- Each event as one line of JSON, as it was written at the time.
CREATE TABLE bodies (
    event INTEGER PRIMARY KEY REFERENCES events (id),
    json TEXT NOT NULL
) STRICT;

CREATE VIEW history AS
SELECT
    e.id,
    strftime('%Y-%m-%dT%H:%M:%S', e.time / 1000000000, 'unixepoch')
        || printf('.%09dZ', e.time % 1000000000) AS time,
    e.time AS time_ns,
    k.name AS kind,
    h.name AS host,
    c.name AS container,
    c.id AS container_id,
    c.image AS image,
    e.attribution,
    e.pid,
    e.parent_pid,
    e.start_time,
    e.comm,
    e.uid,
    e.executable,
    e.path,
    e.to_path,
    e.peer_address,
    e.peer_port,
    e.exit_code,
    e.error,
    t.name AS target_container,
    b.json
FROM events e
JOIN kinds k ON k.key = e.kind
JOIN hosts h ON h.key = e.host
JOIN bodies b ON b.event = e.id
LEFT JOIN containers c ON c.key = e.container
LEFT JOIN containers t ON t.key = e.target_container;
