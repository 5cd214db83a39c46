//! CSV files: importing rows whose meaning the author of the file knows, and the text of an export.

use std::collections::BTreeSet;

use datapool_store::{ErrorKind, Timestamp};

use super::Model;
use super::pool::{Name, Pool, Record};
use crate::answer::{Answer, Refusal};
use crate::operation::{CsvRow, Duplicates, Filter, Import, Item};

#[derive(Default)]
struct Report {
    rows: u64,
    added: u64,
    skipped: u64,
    blank: u64,
    bad: Vec<(u64, Option<u64>)>,
}

type GoodRow<'a> = (Item, &'a crate::operation::From3, Option<i64>);

impl Model {
    pub fn import(&mut self, id: u64, import: &Import) -> Answer {
        let now = self.now;
        let pool = self.pool(id)?;
        let mut report = Report::default();
        let mut parts: Vec<Vec<GoodRow<'_>>> = vec![Vec::new()];
        let part_rows = import.commit_every.map_or(usize::MAX, |rows| usize::try_from(rows).unwrap());
        let mut failed = None;
        for row in import.file.rows.iter() {
            match row {
                CsvRow::Blank => report.blank += 1,
                CsvRow::Bad { line, column } if !import.skip_bad => {
                    failed = Some(Refusal::of(ErrorKind::Csv { line: *line, column: *column }));
                    break;
                }
                CsvRow::Bad { line, column } => {
                    report.rows += 1;
                    report.bad.push((*line, *column));
                }
                CsvRow::Good { value, entity, from, created, version } => {
                    report.rows += 1;
                    let item = Item { entity: *entity, value: value.clone(), version: *version };
                    if parts.last().is_some_and(|part| part.len() == part_rows) {
                        parts.push(Vec::new());
                    }
                    parts.last_mut().unwrap().push((item, from, *created));
                }
            }
        }
        if failed.is_some() && parts.last().is_some_and(|part| part.len() < part_rows) {
            parts.pop();
        }
        for part in parts {
            pool.add_part(now, &part, import.duplicates, &mut report)?;
        }
        failed.map_or_else(|| Ok(report.lines()), Err)
    }
}

impl Report {
    fn lines(&self) -> Vec<String> {
        let Self { rows, added, skipped, blank, bad } = self;
        let counts = format!("rows {rows} added {added} skipped {skipped} bad {} blank {blank}", bad.len());
        let shown = bad.iter().take(100).map(|(line, column)| format!("bad {line} {column:?}"));
        std::iter::once(counts).chain(shown).collect()
    }
}

impl Pool {
    fn add_part(
        &mut self,
        now: i64,
        part: &[GoodRow<'_>],
        duplicates: Duplicates,
        report: &mut Report,
    ) -> Result<(), Refusal> {
        if part.is_empty() {
            return Ok(());
        }
        self.arrive();
        let first_time = part.iter().find_map(|(_, _, created)| *created);
        let newest = self.records.last_key_value().map(|(_, record)| record.created);
        if first_time.zip(newest).is_some_and(|(first, newest)| newest > first) {
            return Err(Refusal::of(ErrorKind::InvalidArgument));
        }
        let mut seen: BTreeSet<Name> = BTreeSet::new();
        let mut chosen = Vec::new();
        for (item, from, created) in part {
            // A row that expires at once is not live: it makes no later row a duplicate.
            let lives = created.is_none_or(|created| self.would_live(created));
            let name = (item.entity, item.value.clone());
            let is_new = !seen.contains(&name) && self.ids_of(item).is_empty();
            if lives {
                seen.insert(name);
            }
            match duplicates {
                Duplicates::Skip if !is_new => report.skipped += 1,
                Duplicates::Fail if !is_new => return Err(Refusal::of(ErrorKind::AlreadyExists)),
                _ => chosen.push((item, *from, *created)),
            }
        }
        report.added += chosen.len() as u64;
        for (item, from, created) in &chosen {
            let created = created.unwrap_or_else(|| self.arrive());
            self.add(item, from, created);
        }
        if !chosen.is_empty() {
            self.committed(now);
        }
        Ok(())
    }

    fn would_live(&self, created: i64) -> bool {
        self.row.retention.is_none_or(|retention| created.saturating_add(retention) > self.time)
    }

    pub fn export(&self, filter: &Filter, full: bool, safe: bool) -> String {
        let mut text = if full {
            "value,entity_type_id,id,flow_id,flow_run_id,step_id,version,created_at\n".to_owned()
        } else {
            "value,entity_type_id\n".to_owned()
        };
        for record in self.matching(filter) {
            let cell = |text: &str| quoted(text, safe);
            let Record { id, entity, value, from, created, version, .. } = record;
            text.push_str(&cell(value));
            text.push_str(&format!(",{entity}"));
            if full {
                let part = |id: &Option<String>| cell(id.as_deref().unwrap_or_default());
                let version = version.map(|version| version.to_string()).unwrap_or_default();
                let (flow, run, step) = (part(&from.flow), part(&from.run), part(&from.step));
                let time = Timestamp::from_micros(*created);
                text.push_str(&format!(",{id},{flow},{run},{step},{version},{time}"));
            }
            text.push('\n');
        }
        text
    }
}

/// Returns a cell, quoted if it needs to be.
pub fn quoted(text: &str, safe: bool) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if safe && is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
