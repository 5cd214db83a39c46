//! CSV files whose rows are known: good, bad or blank.

use std::sync::Arc;

use datapool_store::Timestamp;

use super::{Generator, SECOND};
use crate::model::{Model, quoted};
use crate::operation::{CsvFile, CsvRow, Duplicates, From3, Import, Operation};

/// The columns of a file, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Value,
    Entity,
    Flow,
    Run,
    Step,
    Created,
    Version,
    Other,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Entity => "entity_type_id",
            Self::Flow => "flow",
            Self::Run => "run",
            Self::Step => "step",
            Self::Created => "created",
            Self::Version => "version",
            Self::Other => "Value",
        }
    }
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    In(Column),
    FieldCount,
    Utf8,
    Quote,
}

impl Generator {
    pub fn import(&mut self, model: &Model) -> Operation {
        let pool = self.a_pool(model);
        let stored = model.pools.get(&pool);
        let newest = stored.and_then(|pool| pool.records.last_key_value()).map(|(_, record)| record.created);
        let created_column = self.random.once_in(6);
        let has_capacity = stored.is_some_and(|pool| pool.row.capacity.is_some());
        let commit_every =
            (!created_column && !has_capacity && !self.limits.one_commit && self.random.once_in(8))
                .then(|| self.random.between(1, 10));
        let mut import = Import {
            file: CsvFile { bytes: Arc::default(), rows: Arc::default() },
            duplicates: *self.random.pick(&[
                Duplicates::Add,
                Duplicates::Skip,
                Duplicates::Skip,
                Duplicates::Fail,
            ]),
            skip_bad: self.random.once_in(2),
            commit_every,
            delimiter: *self.random.pick(&[',', ',', ',', ';', '\t']),
            entity: self.random.once_in(4).then_some(37),
            from: if self.random.once_in(2) { self.origin() } else { From3::default() },
            origin_columns: self.random.once_in(3),
            created_column,
            version_column: self.random.once_in(3),
            by_path: self.random.once_in(3),
        };
        let is_big = model.pools.keys().next() == Some(&pool)
            && stored.is_some_and(|pool| pool.records.len() < self.limits.big);
        let often = if is_big && self.is_large() { 30 } else { 1 };
        let rows = match self.random.weighted(&[50, 10, often]) {
            2 if is_big => self.random.between(5_000, 40_000),
            1 | 2 => self.random.between(30, 300),
            _ => self.random.below(12),
        };
        let start = newest.filter(|_| !self.random.once_in(8)).unwrap_or(model.now - 7_200 * SECOND);
        import.file = self.file(&import, rows, start, model.now);
        Operation::Import { pool, import }
    }

    fn columns(&mut self, import: &Import) -> Vec<Column> {
        let mut columns = vec![Column::Value];
        if import.entity.is_none() {
            columns.push(Column::Entity);
        }
        if import.origin_columns {
            columns.extend([Column::Flow, Column::Run, Column::Step]);
        }
        if import.created_column {
            columns.push(Column::Created);
        }
        if import.version_column {
            columns.push(Column::Version);
        }
        if self.random.once_in(4) {
            columns.push(Column::Other);
        }
        for index in (1..columns.len()).rev() {
            let other = usize::try_from(self.random.below(index as u64 + 1)).unwrap();
            columns.swap(index, other);
        }
        columns
    }

    fn file(&mut self, import: &Import, count: u64, start: i64, now: i64) -> CsvFile {
        let columns = self.columns(import);
        let end: &[u8] = if self.random.once_in(3) { b"\r\n" } else { b"\n" };
        let mut bytes = if self.random.once_in(6) { b"\xEF\xBB\xBF".to_vec() } else { Vec::new() };
        let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
        bytes.extend(names.join(&import.delimiter.to_string()).as_bytes());
        bytes.extend(end);
        let bad_rows = self.random.weighted(&[6, 2, 1]);
        let (mut rows, mut line, mut time) = (Vec::new(), 2, start);
        for _ in 0..count {
            let begin = bytes.len();
            if self.random.once_in(25) {
                let blank = " ".repeat(usize::from(self.random.once_in(2)));
                let cells = if self.random.once_in(2) { 1 } else { columns.len() };
                bytes.extend(vec![blank; cells].join(&import.delimiter.to_string()).as_bytes());
                rows.push(CsvRow::Blank);
            } else {
                if import.created_column {
                    time = (time + i64::try_from(self.random.below(50)).unwrap()).min(now);
                }
                let fault = (bad_rows > 0 && self.random.once_in(if bad_rows == 1 { 40 } else { 4 }))
                    .then(|| self.fault(&columns))
                    .flatten();
                rows.push(self.row(import, &columns, (fault, line, time, now), &mut bytes));
            }
            line += bytes[begin..].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            bytes.extend(end);
        }
        CsvFile { bytes: Arc::new(bytes), rows: Arc::new(rows) }
    }

    fn fault(&mut self, columns: &[Column]) -> Option<Fault> {
        Some(match self.random.below(6) {
            0 => Fault::FieldCount,
            1 => Fault::Utf8,
            2 => Fault::Quote,
            _ => Fault::In(*self.random.pick(columns)),
        })
        .filter(|fault| *fault != Fault::In(Column::Other))
    }

    fn row(
        &mut self,
        import: &Import,
        columns: &[Column],
        (fault, line, time, now): (Option<Fault>, u64, i64, i64),
        bytes: &mut Vec<u8>,
    ) -> CsvRow {
        let mut value = self.value();
        // A lone carriage return is a line end to some, and a line of blanks is a blank row.
        if value.contains('\r') {
            value = "plain".to_owned();
        }
        let entity = import.entity.unwrap_or_else(|| self.item().entity);
        let from = if import.origin_columns { self.origin() } else { import.from.clone() };
        let version = import.version_column.then(|| self.version()).flatten();
        let mut bad_column = None;
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                bytes.push(u8::try_from(import.delimiter).unwrap());
            }
            let is_bad = fault == Some(Fault::In(*column));
            if is_bad || (*column == Column::Value && matches!(fault, Some(Fault::Utf8 | Fault::Quote))) {
                bad_column = Some(index as u64 + 1);
            }
            let part = |id: &Option<String>| id.clone().unwrap_or_default();
            let text = match column {
                Column::Value if is_bad && import.entity.is_none() && self.random.once_in(2) => String::new(),
                Column::Value if is_bad => "z".repeat(4_097),
                Column::Value => value.clone(),
                Column::Entity if is_bad => {
                    (*self.random.pick(&["", "x", "-1", "4294967296", "3.5", " 37", "+37"])).to_owned()
                }
                Column::Entity => entity.to_string(),
                Column::Flow | Column::Run | Column::Step if is_bad => {
                    self.random.pick(&["a,b".to_owned(), " a".to_owned(), "i".repeat(65)]).clone()
                }
                Column::Flow => part(&from.flow),
                Column::Run => part(&from.run),
                Column::Step => part(&from.step),
                Column::Created if is_bad => {
                    let later = Timestamp::from_micros(now + 1).to_string();
                    self.random.pick(&[later, "yesterday".to_owned(), String::new()]).clone()
                }
                Column::Created => Timestamp::from_micros(time).to_string(),
                Column::Version if is_bad => (*self.random.pick(&["7", "o:+1", "c:00"])).to_owned(),
                Column::Version => version.map(|version| version.to_string()).unwrap_or_default(),
                Column::Other => "other".to_owned(),
            };
            match (fault, column) {
                (Some(Fault::Utf8), Column::Value) => bytes.extend(b"bad \xFF\xFE"),
                (Some(Fault::Quote), Column::Value) => bytes.extend(b"\"bad\"x"),
                _ => bytes.extend(self.cell(&text, import.delimiter).as_bytes()),
            }
        }
        if fault == Some(Fault::FieldCount) {
            bytes.push(u8::try_from(import.delimiter).unwrap());
            bytes.extend(b"too many");
        }
        match fault {
            Some(_) => CsvRow::Bad { line, column: bad_column },
            None => {
                let created = import.created_column.then_some(time);
                CsvRow::Good { value, entity, from, created, version }
            }
        }
    }

    /// A cell: quoted if it must be, and sometimes if it need not.
    fn cell(&mut self, text: &str, delimiter: char) -> String {
        if text.contains(delimiter) || (!text.is_empty() && self.random.once_in(6)) {
            return format!("\"{}\"", text.replace('"', "\"\""));
        }
        let needs_quotes = text.contains(['\n', '\r']) || text.starts_with('"');
        // A quote inside of a cell that is not quoted is literal.
        if !needs_quotes && self.random.once_in(2) { text.to_owned() } else { quoted(text, false) }
    }
}
