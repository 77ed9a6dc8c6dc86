-- Ends a transaction that writes to a table whose definition is no longer the one that its rows were encoded for.
-- `_unchanged` compares the two behind the COPY: from there on until COMMIT, its lock keeps every ALTER TABLE out.
-- Nothing is looked up by an unqualified name.
CREATE FUNCTION sluice.expect_unchanged(_unchanged boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT _unchanged THEN
        RAISE EXCEPTION 'a table is no longer defined as it was when its rows were encoded' USING ERRCODE = 'SL002';
    END IF;
END
$$;
