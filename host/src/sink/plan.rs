//! How each output of a plugin is written to its table, settled once before anything moves; if outputs
//! and tables differ, all differences are said at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::Client;

use super::definition::Definitions;
use super::privileges;
use super::table::{Table, TableColumn, quote, quote_path};
use super::types::Encoding;
use super::upsert::{Conflict, StagedColumn, Staging};
use crate::description::{FieldSource, Output, OutputField};
use crate::exact::ExactInputs;
use crate::fault::{Fault, sqlstate};
use crate::settings::{Mode, SinkSettings, TableSettings};

/// Where the rows of a plugin version go. Shared by all lanes that run it.
#[derive(Debug)]
pub struct Plan {
    /// Tells the statements of one plan from another's in a session.
    pub(super) id: u64,
    /// One per output, in the order of the description.
    pub(super) tables: Vec<TablePlan>,
    /// How the tables were defined when the plan was made. It is good for them alone.
    pub(super) definitions: Definitions,
    outputs: Vec<Output>,
    pub(super) settings: BTreeMap<String, TableSettings>,
    exact_inputs: ExactInputs,
}

/// How the rows of one output are written.
#[derive(Debug)]
pub(super) struct TablePlan {
    pub output: String,
    pub table: String,
    pub fields: Vec<FieldPlan>,
    pub route: Route,
    pub mode: Mode,
    /// The conflict key; empty in mode append.
    pub key: Vec<String>,
    /// Columns that stay without a value: nothing fills them, neither a field nor a default nor an expression.
    pub unfilled: Vec<String>,
    /// Columns that a default fills, in all rows or in those without a value.
    pub defaults: Vec<String>,
}

/// One field of an output and the column it fills.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub column: String,
    pub encoding: Encoding,
    pub not_null: bool,
    /// Expression that stands in for a missing value.
    pub default: Option<String>,
}

/// The statements of a table.
#[derive(Debug)]
pub(super) enum Route {
    /// COPY into the table itself.
    Straight { copy: String },
    /// COPY into a table of the session, then a statement that moves the rows on.
    Staged {
        stage: String,
        create: String,
        copy: String,
        apply: String,
        /// Instead of `apply` when a row deletes.
        apply_and_delete: Option<String>,
        /// Counts the rows that `apply` should write; `None` where it depends on the table.
        expected: Option<String>,
    },
}

impl TablePlan {
    pub fn is_staged(&self) -> bool {
        matches!(self.route, Route::Staged { .. })
    }

    pub fn refuses_deletes(&self) -> bool {
        self.mode != Mode::Upsert
    }

    /// Table and columns as INSERT and COPY name them.
    pub fn target(&self) -> String {
        let names: Vec<String> = self.fields.iter().map(|field| quote(&field.column)).collect();
        format!("{} ({})", self.table, names.join(", "))
    }

    /// What moves staged rows on; empty where none are staged.
    pub fn apply_statement(&self, deletes: bool) -> &str {
        match &self.route {
            Route::Straight { .. } => "",
            Route::Staged { apply, apply_and_delete, .. } => {
                apply_and_delete.as_ref().filter(|_| deletes).unwrap_or(apply)
            }
        }
    }

    pub fn copy_statement(&self) -> &str {
        match &self.route {
            Route::Straight { copy } | Route::Staged { copy, .. } => copy,
        }
    }
}

/// Reads the tables and decides how `outputs` are written to them.
///
/// # Errors
/// When outputs and tables differ, or the role may not do what is needed, with all that is wrong.
pub async fn plan(
    client: &Client,
    outputs: &[Output],
    settings: &SinkSettings,
) -> Result<Plan, Fault> {
    plan_for(client, outputs, &settings.tables).await
}

async fn plan_for(
    client: &Client,
    outputs: &[Output],
    settings: &BTreeMap<String, TableSettings>,
) -> Result<Plan, Fault> {
    privileges::on_schemas(client, settings).await?.none_or_fault()?;
    let plan = fit(client, outputs, settings).await?;
    privileges::on_tables(client, &plan).await?.none_or_fault()?;
    Ok(plan)
}

/// The plan without a look at what the role may do with the tables, but for reading them in their schemas.
///
/// # Errors
/// When outputs and tables differ, with all differences.
pub async fn fit(
    client: &Client,
    outputs: &[Output],
    settings: &BTreeMap<String, TableSettings>,
) -> Result<Plan, Fault> {
    // First: what changes between the two is noticed by the first write. The other way round it never would be.
    let names: Vec<String> = settings.values().map(|table| quote_path(&table.table)).collect();
    let definitions = Definitions::read(client, &names).await?;
    let mut tables = BTreeMap::new();
    for table in settings.values() {
        tables.insert(table.table.clone(), Table::read(client, &table.table).await?);
    }
    let plan = Plan::new(outputs, settings, &tables)?;
    Ok(Plan { definitions, outputs: outputs.to_vec(), settings: settings.clone(), ..plan })
}

impl Plan {
    /// Names of the tables, quoted for SQL, in the order of the outputs.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|table| table.table.as_str())
    }

    /// Reads the tables again: the plan for them as they are now, or `None` when this one is still good.
    ///
    /// # Errors
    /// When there is a schema mismatch between outputs and tables, with the differences.
    pub(super) async fn again(&self, client: &Client) -> Result<Option<Self>, Fault> {
        let next = plan_for(client, &self.outputs, &self.settings).await?;
        Ok((next.definitions != self.definitions).then_some(next))
    }

    /// True for the very same plan.
    pub fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// What a decoder has to keep of the numbers that it reads. Rows of another decoder cannot be encoded.
    pub fn exact_inputs(&self) -> &ExactInputs {
        &self.exact_inputs
    }

    /// Compares `outputs` with `tables` (keyed by the name in the settings; `None`: not there).
    pub fn new(
        outputs: &[Output],
        settings: &BTreeMap<String, TableSettings>,
        tables: &BTreeMap<String, Option<Table>>,
    ) -> Result<Self, Fault> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let mut differences = Differences::default();
        differences.unused_settings(outputs, settings);
        let plans: Vec<Option<TablePlan>> = outputs
            .iter()
            .enumerate()
            .map(|(index, output)| {
                let settings = differences.settings_of(output, outputs, settings)?;
                let stage = format!("sluice_stage_{id}_{index}");
                differences.table_plan(
                    output,
                    settings,
                    tables.get(&settings.table)?.as_ref(),
                    &stage,
                )
            })
            .collect();
        differences.none_or_fault()?;
        let tables: Vec<TablePlan> = plans.into_iter().flatten().collect();
        let exact_inputs = exact_inputs(outputs, &tables);
        Ok(Self {
            id,
            tables,
            definitions: Definitions::default(),
            outputs: Vec::new(),
            settings: BTreeMap::new(),
            exact_inputs,
        })
    }
}

fn exact_inputs(outputs: &[Output], tables: &[TablePlan]) -> ExactInputs {
    let mut exact = ExactInputs::default();
    for (output, table) in outputs.iter().zip(tables) {
        for (field, plan) in output.fields.iter().zip(&table.fields) {
            exact.add(field, plan.encoding.is_numeric());
        }
    }
    exact
}

/// What does not fit, in the order in which it is found.
#[derive(Debug, Default)]
struct Differences {
    lines: Vec<String>,
}

impl Differences {
    fn none_or_fault(self) -> Result<(), Fault> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = self.lines.join("\n  - ");
        Err(Fault::block(
            sqlstate::DIFFERENCES,
            format!("schema mismatch between the plugin's outputs and the tables:\n  - {lines}"),
        ))
    }

    fn add(&mut self, output: &Output, table: &str, what: &str) {
        self.lines.push(format!("output {:?}, table {table:?}: {what}", output.name));
    }

    fn unused_settings(&mut self, outputs: &[Output], settings: &BTreeMap<String, TableSettings>) {
        for (name, table) in settings {
            let used = match name.as_str() {
                "" => outputs.len() == 1,
                name => outputs.iter().any(|output| output.name == name),
            };
            if !used {
                let what = if name.is_empty() {
                    format!(
                        "`table` is for plugins with one output; this one has {}",
                        outputs.len()
                    )
                } else {
                    format!("the plugin has no output {name:?}")
                };
                self.lines.push(format!("table {:?}: {what}", table.table));
            }
        }
    }

    fn settings_of<'a>(
        &mut self,
        output: &Output,
        outputs: &[Output],
        settings: &'a BTreeMap<String, TableSettings>,
    ) -> Option<&'a TableSettings> {
        let single = settings.get("").filter(|_| outputs.len() == 1);
        let found = settings.get(&output.name).or(single);
        if found.is_none() {
            self.lines.push(format!("output {:?}: no table is set for it", output.name));
        }
        found
    }

    fn table_plan(
        &mut self,
        output: &Output,
        settings: &TableSettings,
        table: Option<&Table>,
        stage: &str,
    ) -> Option<TablePlan> {
        let Some(table) = table else {
            self.add(output, &settings.table, "there is no such table");
            return None;
        };
        for what in &table.unsafe_for_rows {
            self.add(output, &settings.table, what);
        }
        for what in table.unsafe_for_updates.iter().filter(|_| settings.mode == Mode::Upsert) {
            self.add(output, &settings.table, what);
        }
        let fields: Vec<Option<FieldPlan>> =
            output.fields.iter().map(|field| self.field(output, field, settings, table)).collect();
        self.uncovered(output, settings, table);
        let key = self.key(output, settings, table);
        let fields: Vec<FieldPlan> = fields.into_iter().collect::<Option<_>>()?;
        let key = key?;
        Some(TablePlan {
            output: output.name.clone(),
            table: table.name.clone(),
            route: route(&fields, settings, table, &key, stage),
            mode: settings.mode,
            key,
            unfilled: unfilled(output, table).map(|column| column.name.clone()).collect(),
            defaults: filled_by_defaults(&fields, table),
            fields,
        })
    }

    fn field(
        &mut self,
        output: &Output,
        field: &OutputField,
        settings: &TableSettings,
        table: &Table,
    ) -> Option<FieldPlan> {
        let Some(column) = table.column(&field.name) else {
            self.add(output, &settings.table, &format!("there is no column {:?}", field.name));
            return None;
        };
        let mut fits = true;
        let mut differ = |what: String| {
            self.add(output, &settings.table, &format!("column {:?} {what}", field.name));
            fits = false;
        };
        if output.fields.iter().filter(|other| other.name == field.name).count() > 1 {
            differ("is given twice".to_owned());
        }
        if column.generated {
            differ("is generated by Postgres and cannot be given".to_owned());
        }
        // Where a value is missing, the column's default stands in, as it does for a column that is left out.
        let default = column.default.clone().filter(|_| field.nullable && column.not_null);
        if field.nullable && column.not_null && default.is_none() {
            differ("is NOT NULL without a default, but the field may have no value".to_owned());
        }
        let passed_through = matches!(field.source, FieldSource::Field(_));
        let encoding = Encoding::new(field.kind, &column.target, passed_through);
        if encoding.is_none() {
            differ(format!("is {}, which takes no {}", column.type_name, field.kind.name()));
        }
        let encoding = encoding.filter(|_| fits)?;
        let not_null = column.not_null && default.is_none();
        Some(FieldPlan { column: field.name.clone(), encoding, not_null, default })
    }

    /// Columns that need a value and get none.
    fn uncovered(&mut self, output: &Output, settings: &TableSettings, table: &Table) {
        for column in unfilled(output, table).filter(|column| column.not_null) {
            let what = format!(
                "column {:?} is NOT NULL and has no default, but no field fills it",
                column.name
            );
            self.add(output, &settings.table, &what);
        }
    }

    /// The conflict key; empty in mode append, `None` when there is a difference.
    fn key(
        &mut self,
        output: &Output,
        settings: &TableSettings,
        table: &Table,
    ) -> Option<Vec<String>> {
        let before = self.lines.len();
        if let Some(column) = &settings.newer_than {
            if settings.mode != Mode::Upsert {
                self.add(output, &settings.table, "`newer_than` is for mode upsert");
            } else if !output.fields.iter().any(|field| field.name == *column) {
                self.add(
                    output,
                    &settings.table,
                    &format!("no field fills the `newer_than` column {column:?}"),
                );
            }
        }
        if settings.mode == Mode::Append {
            return (self.lines.len() == before).then(Vec::new);
        }
        let primary = table.unique.first().filter(|_| table.has_primary_key);
        let key = match (settings.key.as_slice(), primary) {
            ([], None) => {
                self.add(
                    output,
                    &settings.table,
                    "there is no primary key; name the conflict columns in `key`",
                );
                return None;
            }
            ([], Some(primary)) => primary.clone(),
            (named, _) => named.to_vec(),
        };
        self.check_key(output, settings, table, &key);
        (self.lines.len() == before).then_some(key)
    }

    fn check_key(
        &mut self,
        output: &Output,
        settings: &TableSettings,
        table: &Table,
        key: &[String],
    ) {
        let same = |unique: &Vec<String>| {
            unique.len() == key.len() && key.iter().all(|name| unique.contains(name))
        };
        if !table.unique.iter().any(same) {
            let what = format!(
                "there is no unique index on exactly {}, as ON CONFLICT needs",
                key.join(", ")
            );
            self.add(output, &settings.table, &what);
        }
        for name in key {
            match output.fields.iter().find(|field| field.name == *name) {
                None => self.add(
                    output,
                    &settings.table,
                    &format!("no field fills the key column {name:?}"),
                ),
                // A NULL never conflicts, so rows without a key would pile up.
                Some(field) if field.nullable => {
                    let what = format!("the field of the key column {name:?} may have no value");
                    self.add(output, &settings.table, &what);
                }
                Some(_) => {}
            }
        }
    }
}

/// Columns that get a value from nowhere.
fn unfilled<'a>(output: &'a Output, table: &'a Table) -> impl Iterator<Item = &'a TableColumn> {
    table.columns.iter().filter(|column| {
        let given = output.fields.iter().any(|field| field.name == column.name);
        !given && !column.has_default && !column.generated
    })
}

fn filled_by_defaults(fields: &[FieldPlan], table: &Table) -> Vec<String> {
    let uses_default = |column: &&TableColumn| {
        let field = fields.iter().find(|field| field.column == column.name);
        column.has_default && field.is_none_or(|field| field.default.is_some())
    };
    table.columns.iter().filter(uses_default).map(|column| column.name.clone()).collect()
}

fn route(
    fields: &[FieldPlan],
    settings: &TableSettings,
    table: &Table,
    key: &[String],
    stage: &str,
) -> Route {
    let conflict = match settings.mode {
        Mode::Append => Conflict::None,
        Mode::Ignore => Conflict::Ignore { key },
        Mode::Upsert => Conflict::Replace { key, newer_than: settings.newer_than.as_deref() },
    };
    let needs_insert =
        |field: &FieldPlan| field.encoding == Encoding::Cast || field.default.is_some();
    let straight = !table.row_security && !fields.iter().any(needs_insert);
    if settings.mode == Mode::Append && straight {
        let names: Vec<String> = fields.iter().map(|field| quote(&field.column)).collect();
        return Route::Straight {
            copy: format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name, names.join(", ")),
        };
    }
    let columns: Vec<StagedColumn> = (fields.iter())
        .filter_map(|field| Some(staged_column(field, table.column(&field.column)?)))
        .collect();
    let staging = Staging { stage, table: &table.name, columns: &columns, conflict };
    Route::Staged {
        stage: quote(stage),
        create: staging.create(),
        copy: staging.copy(),
        apply: staging.apply(),
        apply_and_delete: staging.apply_and_delete(),
        expected: staging.expected(),
    }
}

fn staged_column(field: &FieldPlan, column: &TableColumn) -> StagedColumn {
    let (name, default) = (column.name.clone(), field.default.clone());
    if field.encoding == Encoding::Cast {
        let cast = Some(column.cast_name.clone());
        return StagedColumn { name, type_name: "text".to_owned(), cast, default };
    }
    // Without the column's collation two spellings of one key would be two keys.
    let collate = column.collation.as_ref().map(|collation| format!(" COLLATE {collation}"));
    let type_name = format!("{}{}", column.type_name, collate.unwrap_or_default());
    StagedColumn { name, type_name, cast: None, default }
}
