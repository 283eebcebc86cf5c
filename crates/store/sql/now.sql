-- The store's clock.
-- One row: now.
select engine.now()
