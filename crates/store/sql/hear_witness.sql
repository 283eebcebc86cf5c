-- A sign of life of a witness.
-- $1 witness uuid, $2 worker | server | agent, $3 name. One row: whether it is to testify.
-- Index: witnesses_pkey. Locks: its row; when the server was started anew those of all.
select engine.hear_witness($1, $2, $3) as testify
