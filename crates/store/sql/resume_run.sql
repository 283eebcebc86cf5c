-- Lets a suspended run go on: whoever claims runs takes it, since nobody's lease is that of its owner.
-- $1 run uuid. One row if it was suspended, none else.
-- Index: runs_pkey. Locks: the run row.
update engine.runs
set state = 'open', problem = null, owner = '00000000-0000-0000-0000-000000000000', owner_epoch = 0
where run_id = $1 and state = 'suspended'
returning run_id
