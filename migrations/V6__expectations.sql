-- Ends a transaction that writes to `_table` when it is no longer defined as it was: `_question` then has another answer.
--
-- Called with constants, and marked IMMUTABLE though it reads the catalogs: so Postgres asks when it plans the
-- statement, keeps the answer with the plan, and plans (and so asks) again after whatever invalidates plans that
-- depend on the relation `_table` names: ALTER, DROP and RENAME of the table or its schema, rules, triggers, policies.
-- A COPY that has its lock has been told of all that. Who calls it in a plan that is made each time pays, and is as safe.
CREATE FUNCTION sluice.expect_defined(_table regclass, _question text, _answer bigint) RETURNS boolean
IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    EXECUTE _question INTO found;
    RETURN sluice.expect_unchanged(coalesce(found = _answer, false)) IS NOT NULL;
END
$$;
