//! From a delivery to bytes: cells that do not fit reject their messages, the others are written, and
//! every message is counted once.

use super::Delivery;
use super::copy::{self, Behind, Field};
use super::plan::{FieldPlan, Plan, TablePlan};
use super::prepared::{Disposition, End, Prepared};
use super::types::Encoding;
use crate::columns::Column;
use crate::rows::{Decoded, Rejection, RowColumn, Stage, TableRows, one_for_each_message};

impl Plan {
    /// Encodes a batch, in memory of an earlier one. CPU work only.
    ///
    /// # Panics
    /// When the outcome is not of the plugin that the plan was made for.
    pub fn encode(&self, delivery: Delivery<'_>, reuse: Prepared) -> Prepared {
        let mut prepared = reuse;
        prepared.clear();
        assert_eq!(self.tables.len(), delivery.outcome.tables.len(), "one table per output");
        prepared.dispositions.resize(delivery.batch.len(), Disposition::default());
        prepared.version = Some(delivery.version.clone());
        prepared.parking = delivery.parking.clone();
        prepared.ascii = self.definitions.has_narrow_encoding();
        let misfits = self.misfits(&delivery);
        let (undecoded, refused) = (delivery.undecoded, &delivery.outcome.rejections);
        let mut rejections: Vec<&Rejection> =
            undecoded.iter().chain(refused).chain(&misfits).collect();
        rejections.sort_by_key(|rejection| rejection.message);
        prepared.set_aside(delivery.batch, &rejections, delivery.waiting);
        for (plan, rows) in self.tables.iter().zip(&delivery.outcome.tables) {
            plan.encode(rows, delivery.decoded, &mut prepared);
        }
        prepared.ranges = delivery.ranges;
        prepared.count_messages(&delivery.batch.partitions);
        prepared
    }

    /// Messages with a cell that does not fit, one rejection each.
    fn misfits(&self, delivery: &Delivery<'_>) -> Vec<Rejection> {
        let mut rejections = Vec::new();
        for (plan, rows) in self.tables.iter().zip(&delivery.outcome.tables) {
            plan.check(rows, delivery.decoded, &mut rejections);
        }
        // The first in the order of tables and columns.
        one_for_each_message(rejections)
    }
}

impl TablePlan {
    fn check(&self, rows: &TableRows, decoded: &Decoded, rejections: &mut Vec<Rejection>) {
        let mut refuse = |row: usize, code: &str, reason: String| {
            rejections.push(Rejection {
                message: decoded.messages[rows.messages[row] as usize],
                stage: Stage::Sink,
                code: code.to_owned(),
                reason,
                retry: false,
            });
        };
        if self.refuses_deletes() {
            for (row, _) in rows.deletes.iter().enumerate().filter(|(_, deleted)| **deleted != 0) {
                let reason =
                    format!("output {:?} deletes a row, which takes mode upsert", self.output);
                refuse(row, "delete-without-key", reason);
            }
        }
        for (field, column) in self.fields.iter().zip(&rows.columns) {
            let (column, through) = resolve(field, column, decoded, &rows.messages);
            let may_lack = field.not_null && !column.nulls.is_empty();
            if !may_lack && !field.encoding.may_reject(column) {
                continue;
            }
            for row in 0..rows.messages.len() {
                let index = through.map_or(row, |rows| rows[row] as usize);
                if column.is_null(index) {
                    if field.not_null {
                        refuse(
                            row,
                            "no-value",
                            format!("column {:?} must have a value", field.column),
                        );
                    }
                } else if let Err(misfit) = field.encoding.check(&column.values, index) {
                    refuse(
                        row,
                        misfit.code,
                        format!("column {:?}: {}", field.column, misfit.reason),
                    );
                }
            }
        }
    }

    fn encode(&self, rows: &TableRows, decoded: &Decoded, prepared: &mut Prepared) {
        let (mut buffer, mut messages) = (prepared.buffer(), prepared.message_buffer());
        let dispositions = &mut prepared.dispositions;
        messages.reserve(rows.messages.len());
        for row in &rows.messages {
            let message = decoded.messages[*row as usize];
            let disposition = &mut dispositions[message as usize];
            if disposition.end == End::Rows {
                disposition.rows += 1;
                messages.push(message);
            }
        }
        if !messages.is_empty() {
            let fields: Vec<Field<'_>> = (self.fields.iter().zip(&rows.columns))
                .map(|(field, column)| {
                    let (column, through) = resolve(field, column, decoded, &rows.messages);
                    Field::new(&field.encoding, column, through)
                })
                .collect();
            let behind =
                if self.is_staged() { Behind::Ordinal(&rows.deletes) } else { Behind::Nothing };
            let all = messages.len() == rows.messages.len();
            let wanted = |row: usize| {
                let message = decoded.messages[rows.messages[row] as usize];
                all || dispositions[message as usize].end == End::Rows
            };
            copy::begin(&mut buffer);
            copy::rows(&fields, behind, rows.messages.len(), wanted, &mut buffer);
            copy::end(&mut buffer);
        }
        prepared.push_table(buffer, messages, rows.deletes.iter().any(|deleted| *deleted != 0));
    }
}

/// The column behind an output field, and how its rows are found from the table's.
fn resolve<'a>(
    field: &FieldPlan,
    column: &'a RowColumn,
    decoded: &'a Decoded,
    messages: &'a [u32],
) -> (&'a Column, Option<&'a [u32]>) {
    match column {
        RowColumn::Computed(column) => (column, None),
        RowColumn::Field(input) if matches!(field.encoding, Encoding::DigitsAsNumeric(_)) => {
            (decoded.digits_of(*input), Some(messages))
        }
        RowColumn::Field(input) => (&decoded.columns[*input], Some(messages)),
    }
}
