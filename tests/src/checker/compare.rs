//! The comparison itself: pure, so that planted differences can prove that it sees them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::difference::Difference;
use super::shape::{Disposition, Expected, Keep, Shape};
use super::tables::{DeadLetter, Gap, Lineage, Replayed, StoredRow, Tables};
use super::topic::{Log, Message};

type Place = (i32, i64);

/// All differences between what `log` says must be and what `tables` have.
pub(super) fn compare(
    log: &Log,
    tables: &Tables,
    shape: &dyn Shape,
    markers: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut dispositions = dispositions(log, shape);
    dispositions.retain(|&(partition, offset), _| {
        let covers = |gap: &Gap| gap.partition == partition && (gap.from..gap.to).contains(&offset);
        !tables.gaps.iter().any(covers)
    });
    let mut found = Vec::new();
    compare_replayed(&dispositions, tables, &mut found);
    compare_rows(&dispositions, tables, shape, markers, &mut found);
    compare_dead_letters(&dispositions, log, tables, &mut found);
    compare_positions(log, tables, &mut found);
    compare_lineage(&dispositions, log, tables, &mut found);
    found
}

fn dispositions(log: &Log, shape: &dyn Shape) -> BTreeMap<Place, Disposition> {
    let messages = log.partitions.values().flat_map(|partition| &partition.messages);
    messages
        .map(|message| ((message.partition, message.offset), shape.disposition(message)))
        .collect()
}

fn compare_rows(
    dispositions: &BTreeMap<Place, Disposition>,
    tables: &Tables,
    shape: &dyn Shape,
    markers: &BTreeMap<String, String>,
    found: &mut Vec<Difference>,
) {
    let mut stored: HashMap<(&str, &str), Vec<&StoredRow>> = HashMap::new();
    for row in &tables.rows {
        stored.entry((row.table, &row.text)).or_default().push(row);
    }
    for rows in stored.values_mut() {
        rows.sort_by_key(|row| row.arrival);
    }
    let versions = Versions::of(tables);
    for table in shape.tables() {
        let mut last_arrival: HashMap<i32, (i64, i64)> = HashMap::new();
        let expected_rows = expected_rows(dispositions, table.name, table.keep);
        // A producer that met an outage may have sent a message twice: then two rows are right.
        let mut wanted: HashMap<&str, usize> = HashMap::new();
        for (_, expected) in &expected_rows {
            *wanted.entry(&expected.text).or_default() += 1;
        }
        for ((partition, offset), expected) in expected_rows {
            let (table_name, text) = (table.name, expected.text.clone());
            let rows = stored.get_mut(&(table.name, expected.text.as_str()));
            let Some(rows) = rows.filter(|rows| !rows.is_empty()) else {
                found.push(Difference::MissingRow { partition, offset, table: table_name, text });
                continue;
            };
            let count = rows.len();
            let row = rows.remove(0);
            if let Some(wanted) = wanted.remove(expected.text.as_str())
                && count > wanted
            {
                rows.truncate(wanted - 1);
                found.push(Difference::DuplicateRow {
                    partition,
                    offset,
                    table: table_name,
                    text,
                    count,
                });
            }
            versions.compare(markers, (partition, offset), row, found);
            if versions.late.contains_key(&(partition, offset)) {
                continue;
            }
            let before = last_arrival.insert(partition, (row.arrival, offset));
            if let Some((arrival, before)) = before
                && table.arrival.is_some()
                && row.arrival <= arrival
            {
                found.push(Difference::OutOfOrder { partition, table: table_name, offset, before });
            }
        }
    }
    let extra = stored.into_values().flatten();
    found
        .extend(extra.map(|row| Difference::ExtraRow { table: row.table, text: row.text.clone() }));
}

/// Rows that must be in `table`, in the order of partitions and offsets.
fn expected_rows<'a>(
    dispositions: &'a BTreeMap<Place, Disposition>,
    table: &str,
    keep: Keep,
) -> Vec<(Place, &'a Expected)> {
    let all = dispositions.iter().flat_map(|(place, disposition)| match disposition {
        Disposition::Rows(rows) => rows.iter().map(|row| (*place, row)).collect(),
        Disposition::DeadLetter(_) => Vec::new(),
    });
    let all = all.filter(|(_, row)| row.table == table);
    if keep == Keep::All {
        return all.collect();
    }
    let mut by_key: BTreeMap<&str, (Place, &Expected)> = BTreeMap::new();
    for (place, row) in all {
        let replaces = by_key
            .get(row.key.as_str())
            .is_none_or(|(_, old)| keep == Keep::Last && row.rank >= old.rank);
        if replaces {
            by_key.insert(&row.key, (place, row));
        }
    }
    by_key.into_values().collect()
}

/// Which version made the rows of which message.
struct Versions<'a> {
    ranges: BTreeMap<Place, &'a Lineage>,
    /// Made later than lineage says.
    late: BTreeMap<Place, &'a Replayed>,
}

impl<'a> Versions<'a> {
    fn of(tables: &'a Tables) -> Self {
        let ranges = tables.lineage.iter().map(|range| ((range.partition, range.from), range));
        Self {
            ranges: ranges.collect(),
            late: by_place(tables.replayed.iter().chain(&tables.retried)),
        }
    }

    fn digest(&self, (partition, offset): Place) -> &'a str {
        if let Some(late) = self.late.get(&(partition, offset)) {
            return &late.digest;
        }
        let range = self.ranges.range((partition, i64::MIN)..=(partition, offset)).next_back();
        let range = range.filter(|(_, range)| range.partition == partition && offset < range.to);
        range.map(|(_, range)| range.digest.as_str()).unwrap_or_default()
    }

    fn compare(
        &self,
        markers: &BTreeMap<String, String>,
        (partition, offset): Place,
        row: &StoredRow,
        found: &mut Vec<Difference>,
    ) {
        if markers.is_empty() {
            return;
        }
        let digest = self.digest((partition, offset));
        let expected =
            markers.get(digest).cloned().unwrap_or_else(|| format!("unknown version {digest}"));
        if row.marker != expected {
            let marker = row.marker.clone();
            found.push(Difference::OtherVersion { partition, offset, marker, expected });
        }
    }
}

fn by_place<'a>(all: impl IntoIterator<Item = &'a Replayed>) -> BTreeMap<Place, &'a Replayed> {
    all.into_iter().map(|it| ((it.partition, it.offset), it)).collect()
}

/// What is said to have been replayed or retried must have become what it is said to have become, once.
fn compare_replayed(
    dispositions: &BTreeMap<Place, Disposition>,
    tables: &Tables,
    found: &mut Vec<Difference>,
) {
    let mut seen = BTreeSet::new();
    for Replayed { partition, offset, rows, .. } in tables.replayed.iter().chain(&tables.retried) {
        let (partition, offset) = (*partition, *offset);
        let expected = match dispositions.get(&(partition, offset)) {
            Some(Disposition::Rows(rows)) => i32::try_from(rows.len()).ok(),
            _ => None,
        };
        if expected != Some(*rows) || !seen.insert((partition, offset)) {
            found.push(Difference::ReplayDiffers { partition, offset, rows: *rows, expected });
        }
    }
}

fn compare_dead_letters(
    dispositions: &BTreeMap<Place, Disposition>,
    log: &Log,
    tables: &Tables,
    found: &mut Vec<Difference>,
) {
    let mut stored: BTreeMap<Place, Vec<&DeadLetter>> = BTreeMap::new();
    for dead_letter in &tables.dead_letters {
        stored.entry((dead_letter.partition, dead_letter.offset)).or_default().push(dead_letter);
    }
    for message in log.partitions.values().flat_map(|partition| &partition.messages) {
        let (partition, offset) = (message.partition, message.offset);
        let Some(Disposition::DeadLetter(stage)) = dispositions.get(&(partition, offset)) else {
            continue;
        };
        let Some(dead_letters) = stored.remove(&(partition, offset)) else {
            found.push(Difference::MissingDeadLetter { partition, offset, stage: stage.clone() });
            continue;
        };
        if dead_letters.len() > 1 {
            found.push(Difference::DuplicateDeadLetter {
                partition,
                offset,
                count: dead_letters.len(),
            });
        }
        compare_dead_letter(dead_letters[0], message, stage, found);
    }
    let extra = stored.into_values().flatten();
    found.extend(extra.map(|dead_letter| Difference::ExtraDeadLetter {
        partition: dead_letter.partition,
        offset: dead_letter.offset,
        reason: format!("{} {}: {}", dead_letter.stage, dead_letter.code, dead_letter.reason),
    }));
}

fn compare_dead_letter(
    dead_letter: &DeadLetter,
    message: &Message,
    stage: &str,
    found: &mut Vec<Difference>,
) {
    let stated = !dead_letter.code.is_empty()
        && !dead_letter.reason.is_empty()
        && dead_letter.digest.len() == 64;
    let aspects = [
        ("key", bytes_text(dead_letter.key.as_ref()), bytes_text(message.key.as_ref())),
        ("payload", bytes_text(dead_letter.payload.as_ref()), bytes_text(message.payload.as_ref())),
        ("headers", format!("{:?}", dead_letter.headers), format!("{:?}", message.headers)),
        (
            "timestamp",
            format!("{:?}", dead_letter.timestamp_ms),
            format!("{:?}", Some(message.timestamp_ms)),
        ),
        ("stage", dead_letter.stage.clone(), stage.to_owned()),
        ("code, reason and digest are stated", stated.to_string(), "true".to_owned()),
    ];
    let (partition, offset) = (message.partition, message.offset);
    let different = aspects.into_iter().filter(|(_, found, expected)| found != expected);
    found.extend(different.map(|(what, found, expected)| Difference::DeadLetterDiffers {
        partition,
        offset,
        what,
        found,
        expected,
    }));
}

fn bytes_text(bytes: Option<&Vec<u8>>) -> String {
    bytes.map_or_else(|| "none".to_owned(), |bytes| format!("`{}`", bytes.escape_ascii()))
}

fn compare_positions(log: &Log, tables: &Tables, found: &mut Vec<Difference>) {
    for (&partition, expected) in &log.partitions {
        match tables.positions.iter().find(|position| position.partition == partition) {
            None => found.push(Difference::MissingPosition { partition }),
            Some(position) if position.next_offset != expected.end => {
                let (position, log_end) = (position.next_offset, expected.end);
                found.push(Difference::PositionDiffers { partition, found: position, log_end });
            }
            Some(_) => {}
        }
    }
    let extra = tables
        .positions
        .iter()
        .filter(|position| !log.partitions.contains_key(&position.partition));
    found.extend(extra.map(|position| Difference::ExtraPosition { partition: position.partition }));
}

fn compare_lineage(
    dispositions: &BTreeMap<Place, Disposition>,
    log: &Log,
    tables: &Tables,
    found: &mut Vec<Difference>,
) {
    let (replayed, retried) = (by_place(&tables.replayed), by_place(&tables.retried));
    for (&partition, expected) in &log.partitions {
        let topic_id = tables.positions.iter().find(|position| position.partition == partition);
        let topic_id = topic_id.map(|position| position.topic_id.as_str()).unwrap_or_default();
        // Behind what was skipped there, if anything was.
        let behind_gaps = |mut next: i64| {
            for gap in tables.gaps.iter().filter(|gap| gap.partition == partition) {
                next = if gap.from == next { gap.to } else { next };
            }
            next
        };
        let mut next = behind_gaps(expected.start);
        for range in tables.lineage.iter().filter(|range| range.partition == partition) {
            if range.from > next {
                found.push(Difference::LineageGap { partition, from: next, to: range.from });
            }
            if range.from < next || range.to <= range.from {
                found.push(Difference::LineageOverlap {
                    partition,
                    from: range.from,
                    to: range.to,
                });
            }
            if range.topic_id != topic_id {
                found.push(Difference::LineageOfOtherTopic { partition, from: range.from });
            }
            compare_counts(dispositions, &replayed, &retried, range, found);
            next = behind_gaps(next.max(range.to));
        }
        if next < expected.end {
            found.push(Difference::LineageGap { partition, from: next, to: expected.end });
        }
        if next > expected.end {
            found.push(Difference::LineageOverlap { partition, from: expected.end, to: next });
        }
    }
}

fn compare_counts(
    dispositions: &BTreeMap<Place, Disposition>,
    replayed: &BTreeMap<Place, &Replayed>,
    retried: &BTreeMap<Place, &Replayed>,
    range: &Lineage,
    found: &mut Vec<Difference>,
) {
    let mut expected = [0_i64; 6];
    let places = (range.partition, range.from)..(range.partition, range.to.max(range.from));
    for (place, disposition) in dispositions.range(places) {
        expected[0] += 1;
        match disposition {
            _ if replayed.contains_key(place) => expected[4] += 1,
            _ if retried.contains_key(place) => expected[5] += 1,
            Disposition::Rows(rows) if rows.is_empty() => expected[3] += 1,
            Disposition::Rows(rows) => {
                expected[1] += 1;
                expected[2] += i64::try_from(rows.len()).unwrap_or(i64::MAX);
            }
            Disposition::DeadLetter(_) => expected[4] += 1,
        }
    }
    // A dead letter may have been parked before: which were, their tables do not say for sure.
    let parked_before = (range.counts[5] - expected[5]).clamp(0, expected[4]);
    expected[4] -= parked_before;
    expected[5] += parked_before;
    if range.counts != expected {
        let (partition, from, to, counts) = (range.partition, range.from, range.to, range.counts);
        found.push(Difference::CountsDiffer { partition, from, to, found: counts, expected });
    }
}

#[cfg(test)]
mod tests;
