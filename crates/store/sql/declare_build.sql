-- Says what a worker is, and makes its build known. Fences first.
-- $1 worker uuid, $2 epoch bigint, $3 build text. One row, nothing in it.
-- Index: leases_pkey, builds_pkey. Locks: own lease, the build if it is new.
select engine.declare_build($1, $2, $3)
