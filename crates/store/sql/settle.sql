-- What becomes of a run that lacks something, by a person's word.
-- $1 run uuid, $2 go_on | cancel | accept_loss, $3 by, $4 reason. One row: settled | nothing | not_there | held.
-- Index: losses_pkey, held_pkey. Locks: its rows there.
select engine.settle($1, $2, $3, $4) as answer
