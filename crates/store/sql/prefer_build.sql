-- Makes a known build the newest: it may carry on every run from now on, and others only those that are their own or older.
-- $1 build text. One row: whether it is known.
-- Index: builds_pkey. Locks: its row.
select engine.prefer_build($1) as known
