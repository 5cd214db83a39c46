//! Checks the tables of fingerprints of a pool: every live folded record has one entry, and each entry is
//! where a lookup searches.
//!
//! Entries and records are compared as sets, by their count and a sum of their hashes, because a table has
//! entries of many segments and their records do not fit in memory. Only if a sum differs, the records are
//! read again to find out which entry is wrong.
//!
//! Entries of dead records are not compared, because every reader of an entry checks if its record is live.

use std::collections::HashMap;
use std::ops::Range;

use super::Verification;
use super::expected::{Expected, Sum};
use crate::engine::format::index_row::{Entry, has_version, identity, key_of};
use crate::engine::format::record;
use crate::engine::probe::filter::{LINE_BYTES, Line, Question};
use crate::engine::probe::table::FingerprintTable;
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::error::{ErrorKind, Result};
use crate::ids::RecordNumber;

/// The name of a table in findings, and that of its filter.
const TABLE: &str = "fingerprints";
const FILTER: &str = "filters";

impl Verification<'_, '_, '_> {
    /// Compares each table with what the records imply.
    pub(super) fn check_tables(&mut self, view: &View, expected: &Expected) -> Result<()> {
        for (table, expected) in view.state.tables.iter().zip(expected.sums()) {
            let mut found = Sum::default();
            self.read_table(view, table, &mut |identity, id| found.add(identity, id))?;
            if found != *expected {
                self.explain(view, table)?;
            }
        }
        Ok(())
    }

    /// Reads a table's rows and its filter, checks that each entry is where a lookup searches, and collects
    /// the entries of live records.
    fn read_table(
        &mut self,
        view: &View,
        table: &FingerprintTable,
        show_live: &mut dyn FnMut(Entry, RecordNumber),
    ) -> Result<()> {
        let pool = view.state.id;
        for piece in 0..table.shape.pieces() {
            let filter = self.read_piece(view, table, piece)?;
            for row in table.shape.rows_of_piece(piece) {
                let name = format!("{pool}, {}, {row}", table.number);
                let entries = match table.read_row(view, row) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        self.findings.add(Some(pool), TABLE, name, error.to_string());
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if !entries.is_sorted() {
                    self.findings.add(Some(pool), TABLE, &name, "its entries are out of order");
                }
                for entry in entries {
                    let question = Question::of(entry);
                    let is_in_place = table.shape.row_of(question.value) == row;
                    if !is_in_place {
                        self.findings.add(
                            Some(pool),
                            TABLE,
                            &name,
                            format!("{} belongs in another row", hex(entry)),
                        );
                    }
                    let (_, line) = table.shape.line_of(question.value);
                    let is_known =
                        |filter: &Vec<Line>| filter.get(line).is_some_and(|line| line.may_contain(&question));
                    if is_in_place && !filter.as_ref().is_none_or(is_known) {
                        let key = format!("{pool}, {}, {piece}", table.number);
                        let text = format!("the filter does not know record {}", table.id_of(entry));
                        self.findings.add(Some(pool), FILTER, key, text);
                    }
                    let id = table.id_of(entry);
                    if !table.ids.contains(&id) {
                        let text = format!("it leads to record {id}, of which the table has none");
                        self.findings.add(Some(pool), TABLE, hex(entry), text);
                    } else if view.state.is_live(id) {
                        show_live(identity(entry, has_version(entry)), id);
                    }
                }
            }
        }
        self.check_ends(view, table)
    }

    /// Returns a piece of a table's filter, or `None` if it is damaged.
    fn read_piece(&mut self, view: &View, table: &FingerprintTable, piece: u32) -> Result<Option<Vec<Line>>> {
        let pool = view.state.id;
        let stored = match view.snapshot.filters()? {
            Some(filters) => filters.get((pool, table.number, piece)).storage()?,
            None => None,
        };
        let lines = stored.and_then(|stored| {
            let (lines, rest) = stored.value().as_chunks::<LINE_BYTES>();
            let is_whole = rest.is_empty() && lines.len() == table.shape.empty_piece().len();
            is_whole.then(|| lines.iter().map(Line::of_bytes).collect::<Vec<_>>())
        });
        if lines.is_none() {
            let key = format!("{pool}, {}, {piece}", table.number);
            self.findings.add(Some(pool), FILTER, key, "the piece is missing or damaged");
        }
        Ok(lines)
    }

    /// Checks that a table has no rows or pieces outside its shape.
    fn check_ends(&mut self, view: &View, table: &FingerprintTable) -> Result<()> {
        let (pool, number) = (view.state.id, table.number);
        if let Some(rows) = view.snapshot.fingerprints()? {
            let behind = (pool, number, table.shape.rows(), 0)..=(pool, number, u32::MAX, u32::MAX);
            for row in rows.range(behind).storage()? {
                let (_, _, row, part) = row.storage()?.0.value();
                let text = format!("the table has {} rows", table.shape.rows());
                self.findings.add(Some(pool), TABLE, format!("{pool}, {number}, {row}, {part}"), text);
            }
        }
        if let Some(filters) = view.snapshot.filters()? {
            let behind = (pool, number, table.shape.pieces())..=(pool, number, u32::MAX);
            for row in filters.range(behind).storage()? {
                let (_, _, piece) = row.storage()?.0.value();
                let text = format!("the filter has {} pieces", table.shape.pieces());
                self.findings.add(Some(pool), FILTER, format!("{pool}, {number}, {piece}"), text);
            }
        }
        Ok(())
    }

    /// Finds the entries of a table that do not match the records.
    fn explain(&mut self, view: &View, table: &FingerprintTable) -> Result<()> {
        let pool = view.state.id;
        let mut missing: HashMap<RecordNumber, Entry> = HashMap::new();
        for index in 0..view.state.segments.len() {
            self.each_live(view, index, &table.ids, |identity, id| {
                missing.insert(id, identity);
            })?;
        }
        let mut entries = Vec::new();
        for row in 0..table.shape.rows() {
            match table.read_row(view, row) {
                Ok(mut row) => entries.append(&mut row),
                // This damage is already a finding.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        for entry in entries {
            let id = table.id_of(entry);
            if !view.state.is_live(id) || !table.ids.contains(&id) {
                continue;
            }
            let reason = match missing.remove(&id) {
                Some(wanted) if wanted == identity(entry, has_version(entry)) => continue,
                Some(wanted) if key_of(wanted) == key_of(entry) => {
                    let says = if has_version(entry) { "a version" } else { "no version" };
                    format!("it says that record {id} has {says}")
                }
                Some(_) => format!("it leads to record {id}, which has another fingerprint"),
                None => format!("record {id} has an entry already, or cannot be read"),
            };
            self.findings.add(Some(pool), TABLE, hex(entry), reason);
        }
        let mut missing: Vec<_> = missing.into_iter().collect();
        missing.sort_unstable();
        for (id, identity) in missing {
            self.findings.add(Some(pool), TABLE, hex(identity), format!("record {id} is not in it"));
        }
        Ok(())
    }

    /// Calls back with the readable live folded records of a segment within an id range.
    fn each_live(
        &self,
        view: &View,
        index: usize,
        ids: &Range<RecordNumber>,
        mut show: impl FnMut(Entry, RecordNumber),
    ) -> Result<()> {
        let Some(segment) = view.state.segments.get(index) else { return Ok(()) };
        let slots = view.state.slots_in(index, ids);
        let Some(records) = view.records(index)?.filter(|_| !slots.is_empty()) else { return Ok(()) };
        for row in records.range(slots).storage()? {
            let (slot, row) = row.storage()?;
            let (slot, id) = (slot.value(), segment.id(slot.value()));
            let stored = record::decode(slot, segment.base_time, row.value());
            if let Ok(stored) = stored
                && view.state.is_live(id)
                && id < view.state.folded_to
            {
                let fingerprint = self.engine.hash_key.fingerprint(stored.entity_type, stored.value);
                show(identity(fingerprint, stored.version.is_some()), id);
            }
        }
        Ok(())
    }
}

fn hex(entry: Entry) -> String {
    format!("{:024x}", entry >> 32)
}
