-- Sources, without their secrets.
-- $1 name or null. Rows: the source's columns, number of secrets, listeners, last accepted and refused, kept deliveries, alerts, firing.
-- Index: primary keys, trigger_deliveries_by_verdict, trigger_alerts_incident. Locks: none.
select s.name, s.settings::json as settings, s.enabled, s.created_by, s.created_at,
       (select count(*) from recovery.trigger_secrets k where k.source = s.name) as secrets,
       array(select l.policy from recovery.trigger_listeners l where l.source = s.name order by 1) as listeners,
       (select d.received_at from recovery.trigger_deliveries d where d.source = s.name and d.verdict = 'accepted'
        order by d.id desc limit 1) as accepted_at,
       (select d.received_at from recovery.trigger_deliveries d where d.source = s.name and d.verdict = 'refused'
        order by d.id desc limit 1) as refused_at,
       (select count(*) from recovery.trigger_deliveries d where d.source = s.name) as deliveries,
       (select count(*) from recovery.trigger_alerts a where a.source = s.name) as alerts,
       (select count(*) from recovery.trigger_alerts a where a.source = s.name and a.status = 'firing') as firing
from recovery.trigger_sources s where s.name = $1 or $1::text is null order by s.name
