-- Looks for parked messages are short however many wait: what was tried is found by its time, and what waits behind
-- another message is looked through in pieces, in the order in which it was parked.
CREATE INDEX parked_tried ON sluice.parked (pipeline, due_at) WHERE attempts > 0;
CREATE INDEX parked_waiting ON sluice.parked (pipeline, id) WHERE attempts = 0;
DROP INDEX sluice.parked_by_time;
