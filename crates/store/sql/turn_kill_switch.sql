-- Turns a kill switch on or off and wakes every policy.
-- $1 scope, $2 on, $3 by, $4 reason. No rows that matter. Index: kill_switches_pkey. Locks: the switch's row.
select recovery.turn_kill_switch($1, $2, $3, $4)
