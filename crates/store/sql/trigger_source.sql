-- What is needed to judge a delivery: how its source is configured, its secrets, the time.
-- $1 name. One row or none: settings json, secrets bytea[], digests bytea[], now. The only query that reads secrets.
-- Index: primary keys. Locks: none.
select s.settings::json as settings, engine.now() as now,
       array(select k.secret from recovery.trigger_secrets k where k.source = s.name and k.secret is not null order by k.number) as secrets,
       array(select k.sha256 from recovery.trigger_secrets k where k.source = s.name and k.sha256 is not null order by k.number) as digests
from recovery.trigger_sources s where s.name = $1
