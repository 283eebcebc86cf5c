-- All messages of some runs in the order of their arrival; one statement, no watermark.
-- $1 runs uuid[]. Rows: id, run_id, msg_key, body.
-- Index: inbox_pkey. Locks: none.
select id, run_id, msg_key, body from engine.inbox where run_id = any ($1) order by id
