//! Changes that leave a table into which all rows fit: the pipeline must write on without a pause.

use fastrand::Rng;

use super::table::{ALWAYS_FILLED, FILLED, Form, STATUSES, Table, UNUSED};

/// Nobody may read or write the table until the transaction ends, so that two changes of it are one.
pub const LOCK: &str = "LOCK TABLE readings IN ACCESS EXCLUSIVE MODE; ";

/// Statements for the next change, which are one transaction, and a word for it; `table` is what it is like then.
pub fn change(table: &mut Table, random: &mut Rng) -> (&'static str, String) {
    loop {
        let kind = KINDS[random.usize(..KINDS.len())];
        if let Some(change) = change_of(kind, table, random) {
            return (kind, change);
        }
    }
}

/// Types are changed most often.
const KINDS: [&str; 23] = [
    "type",
    "type",
    "type",
    "type",
    "type",
    "type",
    "same name",
    "same name",
    "two types",
    "rename twice",
    "add",
    "add",
    "drop",
    "not null",
    "current_a",
    "label",
    "label",
    "trigger",
    "security",
    "policy",
    "replace",
    "partition",
    "aside",
];

fn change_of(kind: &str, table: &mut Table, random: &mut Rng) -> Option<String> {
    match kind {
        "type" => change_type(table, random),
        "two types" => {
            Some(format!("{LOCK}{}; {}", change_type(table, random)?, change_type(table, random)?))
        }
        "same name" => change_column(table, random),
        "rename twice" => {
            let column = FILLED[random.usize(..FILLED.len())];
            Some(format!(
                "ALTER TABLE readings RENAME {column} TO away; ALTER TABLE readings RENAME away TO {column}"
            ))
        }
        "add" => Some(add_column(table, random)),
        "drop" => {
            let place = table.extra.len().checked_sub(1)?;
            let column = table.extra.swap_remove(random.usize(..=place));
            Some(format!("ALTER TABLE readings DROP COLUMN {column}"))
        }
        "not null" => {
            let column = ALWAYS_FILLED[random.usize(..ALWAYS_FILLED.len())];
            let change = if random.bool() { "SET" } else { "DROP" };
            Some(format!("ALTER TABLE readings ALTER COLUMN {column} {change} NOT NULL"))
        }
        "current_a" => Some(change_current_a(table)),
        "label" => Some(change_label(table, random)),
        "trigger" => Some(change_trigger(table, random)),
        "security" => Some(change_security(table)),
        "policy" => change_policy(table),
        "replace" => replace(table),
        "partition" => change_partition(table, random),
        _ => Some(change_aside(table, random)),
    }
}

fn change_type(table: &mut Table, random: &mut Rng) -> Option<String> {
    let column = FILLED[random.usize(..FILLED.len())];
    let to = table.other_type(column, random)?;
    Some(set_type(table, column, to))
}

/// Gives `column` the type `to`.
pub fn set_type(table: &mut Table, column: &'static str, to: &'static str) -> String {
    let value = table.as_type(column, to);
    table.types.insert(column, to);
    format!("ALTER TABLE readings ALTER COLUMN {column} TYPE {to} USING {value}")
}

/// Another column with the same name, another type, and the same values.
fn change_column(table: &mut Table, random: &mut Rng) -> Option<String> {
    let column = FILLED[random.usize(..FILLED.len())];
    // A key and what rows are spread by cannot be dropped so.
    let is_key = table.form == Form::Keyed && column == "device_id";
    let to = table.other_type(column, random).filter(|_| !is_key && column != "current_a")?;
    let value = table.as_type(column, to);
    table.types.insert(column, to);
    Some(format!(
        "{LOCK}ALTER TABLE readings ADD COLUMN successor {to}; UPDATE readings SET successor = {value}; \
         ALTER TABLE readings DROP COLUMN {column}; ALTER TABLE readings RENAME successor TO {column}"
    ))
}

fn add_column(table: &mut Table, random: &mut Rng) -> String {
    let column = table.new_name("extra");
    let definition =
        ["text", "integer NOT NULL DEFAULT 7", "timestamptz DEFAULT now()"][random.usize(..3)];
    let change = format!("ALTER TABLE readings ADD COLUMN {column} {definition}");
    table.extra.push(column);
    change
}

/// Whether it must have a value, for which a default steps in.
fn change_current_a(table: &mut Table) -> String {
    table.current_a_needed = !table.current_a_needed;
    if !table.current_a_needed {
        return "ALTER TABLE readings ALTER COLUMN current_a DROP NOT NULL, ALTER COLUMN current_a DROP DEFAULT".into();
    }
    format!(
        "{LOCK}UPDATE readings SET current_a = -1 WHERE current_a IS NULL; \
         ALTER TABLE readings ALTER COLUMN current_a SET DEFAULT -1, ALTER COLUMN current_a SET NOT NULL"
    )
}

fn change_label(table: &mut Table, random: &mut Rng) -> String {
    let label = table.new_name("label");
    if random.bool() {
        table.labels.push(label.clone());
        return format!("ALTER TYPE state ADD VALUE '{label}' BEFORE 'ok'");
    }
    let place = random.usize(..table.labels.len());
    let old = std::mem::replace(&mut table.labels[place], label.clone());
    format!("ALTER TYPE state RENAME VALUE '{old}' TO '{label}'")
}

fn change_trigger(table: &mut Table, random: &mut Rng) -> String {
    if !table.triggers.is_empty() && random.bool() {
        let trigger = table.triggers.swap_remove(random.usize(..table.triggers.len()));
        return format!("DROP TRIGGER {trigger} ON readings");
    }
    let trigger = table.new_name("pass");
    let when = [
        "BEFORE INSERT ON readings FOR EACH ROW",
        "AFTER INSERT OR UPDATE ON readings FOR EACH ROW",
        "BEFORE INSERT ON readings FOR EACH STATEMENT",
    ][random.usize(..3)];
    let change = format!("CREATE TRIGGER {trigger} {when} EXECUTE FUNCTION pass()");
    table.triggers.push(trigger);
    change
}

fn change_security(table: &mut Table) -> String {
    match table.policy.take() {
        Some(policy) => {
            format!(
                "ALTER TABLE readings DISABLE ROW LEVEL SECURITY; DROP POLICY {policy} ON readings"
            )
        }
        None => {
            let create = create_policy(table);
            format!("{create}; ALTER TABLE readings ENABLE ROW LEVEL SECURITY")
        }
    }
}

fn change_policy(table: &mut Table) -> Option<String> {
    let old = table.policy.take()?;
    let create = create_policy(table);
    Some(format!("{create}; DROP POLICY {old} ON readings"))
}

fn create_policy(table: &mut Table) -> String {
    let policy = table.new_name("open");
    let create = format!(
        "CREATE POLICY {policy} ON readings TO {} USING (true) WITH CHECK (true)",
        table.role
    );
    table.policy = Some(policy);
    create
}

/// Another table takes the name. Rows of a key are taken along; others stay where they are.
fn replace(table: &mut Table) -> Option<String> {
    if table.form == Form::Partitioned {
        return None;
    }
    let former = table.new_name("former");
    let rows =
        if table.form == Form::Keyed { "INSERT INTO next SELECT * FROM readings;" } else { "" };
    let change = format!(
        "{LOCK}CREATE TABLE next (LIKE readings INCLUDING ALL); {rows} {}; \
         ALTER TABLE readings RENAME TO {former}; ALTER TABLE next RENAME TO readings",
        table.grant("next")
    );
    table.former.push(former);
    table.triggers.clear();
    table.policy = None;
    Some(change)
}

/// Detaches and attaches the partition for no message, or puts a new one in the place of another.
fn change_partition(table: &mut Table, random: &mut Rng) -> Option<String> {
    let status = STATUSES[random.usize(..STATUSES.len())];
    let new = table.new_name("readings_part");
    let (name, attached) = table.partitions.get_mut(status)?;
    let create = format!(
        "CREATE TABLE {new} (LIKE readings INCLUDING DEFAULTS INCLUDING CONSTRAINTS); {}",
        attach(&new, status)
    );
    if !*attached {
        (*name, *attached) = (new, true);
        return Some(create);
    }
    if status == UNUSED {
        *attached = false;
        return Some(detach(name));
    }
    let old = std::mem::replace(name, new);
    table.former.push(old.clone());
    Some(format!("{LOCK}{}; {create}", detach(&old)))
}

/// Gives the rows of `status` a partition.
pub fn attach(partition: &str, status: &str) -> String {
    format!("ALTER TABLE readings ATTACH PARTITION {partition} FOR VALUES IN ('{status}')")
}

/// Takes the partition of a status away.
pub fn detach(partition: &str) -> String {
    format!("ALTER TABLE readings DETACH PARTITION {partition}")
}

/// Changes of what does not concern the rows.
fn change_aside(table: &mut Table, random: &mut Rng) -> String {
    let name = table.new_name("aside");
    match random.u32(..5) {
        0 => format!("CREATE INDEX {name} ON readings (measured_at)"),
        1 => format!("ALTER TABLE readings ADD CONSTRAINT {name} CHECK (voltage_v > 0)"),
        2 => "ALTER TABLE readings ALTER COLUMN status SET STATISTICS 50".into(),
        3 => format!("COMMENT ON TABLE readings IS '{name}'"),
        _ => "ANALYZE readings".into(),
    }
}
