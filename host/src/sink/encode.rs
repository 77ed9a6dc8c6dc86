//! From a delivery to bytes: cells that do not fit reject their messages, the others are written, and
//! every message is counted once.

use super::copy::{self, Behind, Field};
use super::letters::Letters;
use super::plan::{Plan, TablePlan};
use super::prepared::{Fate, Prepared};
use super::{Delivery, Range};
use crate::columns::Column;
use crate::rows::{Decoded, Rejection, RowColumn, Stage, TableRows};

impl Plan {
    /// Encodes a batch, in memory of an earlier one. CPU work only.
    ///
    /// # Panics
    /// When the outcome is not of the plugin that the plan was made for.
    pub fn encode(&self, delivery: Delivery<'_>, reuse: Prepared) -> Prepared {
        self.encode_with(delivery, reuse, |delivery, rejection, letters| {
            letters.push(delivery.batch, rejection, &delivery.version.digest);
        })
    }

    /// The same for messages that are kept in a table of ours already: their rejections are handed back and
    /// become no dead letters here.
    ///
    /// # Panics
    /// When the outcome is not of the plugin that the plan was made for.
    pub fn encode_kept(
        &self,
        delivery: Delivery<'_>,
        reuse: Prepared,
    ) -> (Prepared, Vec<Rejection>) {
        let mut rejections = Vec::new();
        let prepared = self.encode_with(delivery, reuse, |_, rejection, _| {
            rejections.push(rejection.clone());
        });
        (prepared, rejections)
    }

    /// Shows `reject` every rejection, in the order of the batch.
    fn encode_with(
        &self,
        delivery: Delivery<'_>,
        reuse: Prepared,
        mut reject: impl FnMut(&Delivery<'_>, &Rejection, &mut Letters),
    ) -> Prepared {
        let mut prepared = reuse;
        prepared.clear();
        assert_eq!(self.tables.len(), delivery.outcome.tables.len(), "one table per output");
        prepared.fates.resize(delivery.batch.len(), Fate::default());
        let misfits = self.misfits(&delivery);
        for rejection in rejections(&delivery, &misfits) {
            prepared.reject(rejection);
            reject(&delivery, rejection, &mut prepared.letters);
        }
        for (plan, rows) in self.tables.iter().zip(&delivery.outcome.tables) {
            plan.encode(rows, delivery.decoded, &mut prepared);
        }
        prepared.ranges = delivery.ranges;
        count(&delivery.batch.partitions, &prepared.fates, &mut prepared.ranges);
        prepared.version = Some(delivery.version);
        prepared
    }

    /// Messages with a cell that does not fit, one rejection each.
    fn misfits(&self, delivery: &Delivery<'_>) -> Vec<Rejection> {
        let mut rejections = Vec::new();
        for (plan, rows) in self.tables.iter().zip(&delivery.outcome.tables) {
            plan.check(rows, delivery.decoded, &mut rejections);
        }
        // Sorting is stable: of several misfits the first in the order of tables and columns stays.
        rejections.sort_by_key(|rejection| rejection.message);
        rejections.dedup_by_key(|rejection| rejection.message);
        rejections
    }
}

/// All rejections of a batch, in its order.
fn rejections<'a>(delivery: &'a Delivery<'_>, misfits: &'a [Rejection]) -> Vec<&'a Rejection> {
    let (undecoded, refused) = (delivery.undecoded, &delivery.outcome.rejections);
    let mut all: Vec<&Rejection> = undecoded.iter().chain(refused).chain(misfits).collect();
    all.sort_by_key(|rejection| rejection.message);
    all
}

/// Adds each message to the range of its partition.
fn count(partitions: &[i32], fates: &[Fate], ranges: &mut [Range]) {
    // Messages of one partition come in runs.
    let mut current = 0;
    for (partition, fate) in partitions.iter().zip(fates) {
        if ranges.get(current).is_none_or(|range| range.partition != *partition) {
            current = ranges
                .iter()
                .position(|range| range.partition == *partition)
                .expect("each partition of a batch has a range");
        }
        let range = &mut ranges[current];
        range.messages += 1;
        if fate.rejected {
            range.rejected += 1;
        } else if fate.rows == 0 {
            range.filtered += 1;
        } else {
            range.rows_from += 1;
            range.rows += u64::from(fate.rows);
        }
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
        if self.deletes_are_refused {
            for (row, _) in rows.deletes.iter().enumerate().filter(|(_, deleted)| **deleted != 0) {
                let reason =
                    format!("output {:?} deletes a row, which takes mode upsert", self.output);
                refuse(row, "delete-without-key", reason);
            }
        }
        for (field, column) in self.fields.iter().zip(&rows.columns) {
            let (column, through) = resolve(column, decoded, &rows.messages);
            let may_lack = field.not_null && !column.nulls.is_empty();
            if !may_lack && !field.encoding.suspects(column) {
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
        let mut buffer = prepared.buffer();
        let fates = &mut prepared.fates;
        let mut wanted_rows = 0;
        for row in &rows.messages {
            let fate = &mut fates[decoded.messages[*row as usize] as usize];
            if !fate.rejected {
                fate.rows += 1;
                wanted_rows += 1;
            }
        }
        if wanted_rows > 0 {
            let resolved =
                rows.columns.iter().map(|column| resolve(column, decoded, &rows.messages));
            let fields: Vec<Field<'_>> = (self.fields.iter().zip(resolved))
                .map(|(field, (column, through))| Field::new(&field.encoding, column, through))
                .collect();
            let behind =
                if self.is_staged() { Behind::Ordinal(&rows.deletes) } else { Behind::Nothing };
            let all = wanted_rows == rows.messages.len();
            let wanted = |row: usize| {
                all || !fates[decoded.messages[rows.messages[row] as usize] as usize].rejected
            };
            copy::begin(&mut buffer);
            copy::rows(&fields, behind, rows.messages.len(), wanted, &mut buffer);
            copy::end(&mut buffer);
        }
        prepared.push_table(buffer, wanted_rows, rows.deletes.iter().any(|deleted| *deleted != 0));
    }
}

/// The column behind an output field, and how its rows are found from the table's.
fn resolve<'a>(
    column: &'a RowColumn,
    decoded: &'a Decoded,
    messages: &'a [u32],
) -> (&'a Column, Option<&'a [u32]>) {
    match column {
        RowColumn::Computed(column) => (column, None),
        RowColumn::Field(field) => (&decoded.columns[*field], Some(messages)),
    }
}
