//! The trust border: everything a guest returns is compared with the plugin's description and the
//! batch before anyone believes it. The only place that makes a [`Checked`] outcome.
//!
//! Runs over every value of every batch, so each rule is a loop without early exit that the compiler
//! turns into vector instructions; only a breach is looked at twice, to say where it is.

use super::fault::{PluginFault, printable};
use super::limits::Limits;
use crate::columns::Column;
use crate::description::{Description, FieldSource, Output, OutputField};
use crate::printable::is_unprintable;
use crate::rows::{Checked, Decoded, Outcome, Rejection, RowColumn, Stage, TableRows};

mod column;

/// Rows as a guest returned them.
#[derive(Debug, Clone, PartialEq)]
pub struct ReturnedRows {
    /// For each row the message it comes from.
    pub messages: Vec<u32>,
    /// The computed columns.
    pub columns: Vec<Column>,
    /// One byte per row, or none.
    pub deletes: Vec<u8>,
}

/// A rejection as a guest returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnedRejection {
    /// The message.
    pub message: u32,
    /// For counting.
    pub code: String,
    /// For people.
    pub reason: String,
    /// Try again later.
    pub retry: bool,
}

/// An outcome as a guest returned it, not believed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Returned {
    /// Should be one per output of the description.
    pub outputs: Vec<ReturnedRows>,
    /// Should be at most one per message.
    pub rejections: Vec<ReturnedRejection>,
}

/// Believes `returned` if it keeps every promise of the contract and the description.
pub fn check(
    returned: Returned,
    description: &Description,
    decoded: &Decoded,
    limits: &Limits,
) -> Result<Checked<Outcome>, PluginFault> {
    check_size(&returned, limits)?;
    let outputs = &description.outputs;
    if returned.outputs.len() != outputs.len() {
        return Err(PluginFault::Breach(format!(
            "returned rows for {} outputs, described {}",
            returned.outputs.len(),
            outputs.len()
        )));
    }
    let messages = decoded.messages.len();
    let rejected = Rejected::of(&returned.rejections, messages)?;
    let repeats = passes_a_field_twice(description);
    let mut passed_bytes = 0;
    let mut tables = Vec::with_capacity(outputs.len());
    for (output, rows) in outputs.iter().zip(returned.outputs) {
        check_rows(output, &rows, messages, &rejected)
            .map_err(|breach| PluginFault::Breach(format!("output `{}`, {breach}", output.name)))?;
        passed_bytes += bytes_passed_through(output, &rows.messages, decoded, repeats);
        check_bytes(passed_bytes, limits.output_bytes_max)?;
        tables.push(believed(output, rows));
    }
    let rejections = returned.rejections.into_iter();
    let rejections: Result<_, _> =
        rejections.map(|rejection| believed_rejection(rejection, decoded, limits)).collect();
    Ok(Checked::vouch(Outcome { tables, rejections: rejections? }))
}

/// The outcome of a batch without a single decoded message, which no guest needs to be asked for.
pub fn nothing(description: &Description) -> Checked<Outcome> {
    let tables = description.outputs.iter().map(|output| {
        let empty = |field: &OutputField| match field.source {
            FieldSource::Computed => RowColumn::Computed(Column::new(field.kind)),
            FieldSource::Field(index) => RowColumn::Field(index),
        };
        TableRows { columns: output.fields.iter().map(empty).collect(), ..TableRows::default() }
    });
    Checked::vouch(Outcome { tables: tables.collect(), rejections: Vec::new() })
}

/// Bytes that an outcome of `decoded` takes, rows passed through included.
pub fn bytes(outcome: &Outcome, description: &Description, decoded: &Decoded) -> usize {
    let repeats = passes_a_field_twice(description);
    let of_rows = |(output, rows): (&Output, &TableRows)| {
        let computed = rows.columns.iter().map(|column| match column {
            RowColumn::Computed(column) => column::bytes(column),
            RowColumn::Field(_) => 0,
        });
        size_of_val(rows.messages.as_slice())
            + computed.sum::<usize>()
            + bytes_passed_through(output, &rows.messages, decoded, repeats)
    };
    let tables = description.outputs.iter().zip(&outcome.tables).map(of_rows).sum::<usize>();
    let texts = outcome.rejections.iter().map(|it| it.code.len() + it.reason.len());
    tables + texts.sum::<usize>()
}

fn check_size(returned: &Returned, limits: &Limits) -> Result<(), PluginFault> {
    let rows: usize = returned.outputs.iter().map(|rows| rows.messages.len()).sum();
    if rows > limits.rows_max {
        let (found, allowed) = (format!("{rows} rows"), format!("{} rows", limits.rows_max));
        return Err(PluginFault::OutputTooLarge { found, allowed });
    }
    let of_rows = |rows: &ReturnedRows| {
        let columns: usize = rows.columns.iter().map(column::bytes).sum();
        rows.messages.len() * size_of::<u32>() + columns + rows.deletes.len()
    };
    let bytes: usize = returned.outputs.iter().map(of_rows).sum();
    let rejections = &returned.rejections;
    let texts: usize = rejections.iter().map(|r| r.code.len() + r.reason.len()).sum();
    check_bytes(bytes + texts, limits.output_bytes_max)
}

/// `max` is said to be what is allowed.
pub fn check_bytes(bytes: usize, max: usize) -> Result<(), PluginFault> {
    if bytes <= max {
        return Ok(());
    }
    let (found, allowed) = (format!("{bytes} bytes"), format!("{max} bytes"));
    Err(PluginFault::OutputTooLarge { found, allowed })
}

fn check_rows(
    output: &Output,
    rows: &ReturnedRows,
    messages: usize,
    rejected: &Rejected,
) -> Result<(), String> {
    check_messages(&rows.messages, messages)?;
    rejected.check_no_row(&rows.messages)?;
    let count = rows.messages.len();
    column::check_flags(&rows.deletes, count).map_err(|breach| format!("deletes: {breach}"))?;
    let computed = output.fields.iter().filter(|field| field.source == FieldSource::Computed);
    let expected = computed.clone().count();
    if rows.columns.len() != expected {
        return Err(format!("{} columns for {expected} computed fields", rows.columns.len()));
    }
    for (field, column) in computed.zip(&rows.columns) {
        column::check(column, field, count)
            .map_err(|breach| format!("column `{}`: {breach}", field.name))?;
    }
    Ok(())
}

/// Never descending, so only the last one can be out of range.
fn check_messages(rows: &[u32], messages: usize) -> Result<(), String> {
    if let Some(row) = column::first_descent(rows) {
        let (from, to) = (rows[row - 1], rows[row]);
        return Err(format!("row {row}: message {to} after message {from}"));
    }
    match rows.last() {
        Some(&last) if last as usize >= messages => {
            let row = rows.partition_point(|&message| (message as usize) < messages);
            Err(format!("row {row}: message {}, of a batch of {messages}", rows[row]))
        }
        _ => Ok(()),
    }
}

/// Which messages were rejected. Empty when none was, which is the common case.
struct Rejected {
    flags: Vec<bool>,
}

impl Rejected {
    fn of(rejections: &[ReturnedRejection], messages: usize) -> Result<Self, PluginFault> {
        let mut flags = if rejections.is_empty() { Vec::new() } else { vec![false; messages] };
        for (index, rejection) in rejections.iter().enumerate() {
            let message = rejection.message;
            let breach = match flags.get_mut(message as usize) {
                None => format!("rejection {index}: message {message}, of a batch of {messages}"),
                Some(true) => format!("rejection {index}: message {message} rejected twice"),
                Some(flag) => {
                    *flag = true;
                    continue;
                }
            };
            return Err(PluginFault::Breach(breach));
        }
        Ok(Self { flags })
    }

    fn check_no_row(&self, rows: &[u32]) -> Result<(), String> {
        if self.flags.is_empty() {
            return Ok(());
        }
        match rows.iter().position(|&message| self.flags[message as usize]) {
            Some(row) => Err(format!("row {row}: message {} was rejected", rows[row])),
            None => Ok(()),
        }
    }
}

/// True when some field of the messages goes into more than one column.
fn passes_a_field_twice(description: &Description) -> bool {
    let mut seen = vec![false; description.payload.fields().len()];
    let fields = description.outputs.iter().flat_map(|output| &output.fields);
    let passed = fields.filter_map(|field| match field.source {
        FieldSource::Field(index) => seen.get_mut(index).map(|seen| std::mem::replace(seen, true)),
        FieldSource::Computed => None,
    });
    passed.fold(false, |any, again| any | again)
}

/// A COPY gives each row a count of its columns, and each cell a length.
const ROW_BYTES: usize = 2;
const CELL_BYTES: usize = 4;

/// Bytes that a guest makes out of nothing: rows and cells, and what is passed through more than once, because a message
/// is named many times or (`repeats`) a field goes into many columns.
fn bytes_passed_through(output: &Output, rows: &[u32], decoded: &Decoded, repeats: bool) -> usize {
    let cells = rows.len() * (ROW_BYTES + CELL_BYTES * output.fields.len());
    if !repeats && column::is_strictly_ascending(rows) {
        return cells;
    }
    let passed = output.fields.iter().flat_map(|field| match field.source {
        FieldSource::Field(index) => {
            // A number may take its digits along, in a column of their own.
            let digits = decoded.digits.get(&index).copied();
            [Some(index), digits.filter(|column| *column != index)]
        }
        FieldSource::Computed => [None, None],
    });
    let passed = passed.flatten().filter_map(|column| decoded.columns.get(column));
    cells
        + passed
            .map(|passed| {
                rows.iter().map(|&row| column::bytes_at(passed, row as usize)).sum::<usize>()
            })
            .sum::<usize>()
}

fn believed(output: &Output, rows: ReturnedRows) -> TableRows {
    let mut computed = rows.columns.into_iter();
    let columns = output.fields.iter().filter_map(|field| match field.source {
        FieldSource::Field(index) => Some(RowColumn::Field(index)),
        // As many as there are computed fields: checked above.
        FieldSource::Computed => computed.next().map(RowColumn::Computed),
    });
    TableRows { columns: columns.collect(), messages: rows.messages, deletes: rows.deletes }
}

/// A reason may quote the message, so that it is made fit to print rather than refused; a code is the
/// plugin's own word, and must be one.
fn believed_rejection(
    rejection: ReturnedRejection,
    decoded: &Decoded,
    limits: &Limits,
) -> Result<Rejection, PluginFault> {
    let ReturnedRejection { message, code, reason, retry } = rejection;
    let max = limits.code_bytes_max;
    if code.is_empty() || code.len() > max || !code.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(PluginFault::Breach(format!(
            "rejection of message {message}: code `{}` is not one word of at most {max} ASCII characters",
            printable(&code, max)
        )));
    }
    let reason = if reason.len() <= limits.reason_bytes_max && !reason.contains(is_unprintable) {
        reason
    } else {
        printable(&reason, limits.reason_bytes_max)
    };
    let message = decoded.messages[message as usize];
    Ok(Rejection { message, stage: Stage::Plugin, code, reason, retry })
}

#[cfg(test)]
mod tests;
