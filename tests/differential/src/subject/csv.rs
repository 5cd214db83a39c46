//! CSV files.

use datapool_store::{CellQuoting, ExportColumns, ExportOptions, ImportOptions, OnBadRow, OnDuplicate};

use super::text;
use super::{Subject, remove};
use crate::answer::Answer;
use crate::operation::{Duplicates, Filter, Import};

impl Subject {
    pub fn import(&self, pool: u64, import: &Import) -> Answer {
        let (pool, options) = (self.pool(pool)?, options(import));
        let bytes = import.file.bytes.as_slice();
        let report = if import.by_path {
            let path = self.path("import.csv");
            std::fs::write(&path, bytes).unwrap();
            let report = pool.import_csv_path(&path, &options);
            remove(&path);
            report?
        } else {
            pool.import_csv(bytes, &options)?
        };
        let counts = format!(
            "rows {} added {} skipped {} bad {} blank {}",
            report.rows, report.added, report.skipped, report.bad_rows, report.blank_rows
        );
        let bad = report.errors.iter().map(|bad| format!("bad {} {:?}", bad.line, bad.column));
        Ok(std::iter::once(counts).chain(bad).collect())
    }

    pub fn export(&self, pool: u64, filter: &Filter, how: (bool, bool, bool)) -> Answer {
        let (pool, (full, safe, by_path)) = (self.pool(pool)?, how);
        let columns = if full { ExportColumns::Full } else { ExportColumns::Importable };
        let quoting = if safe { CellQuoting::SpreadsheetSafe } else { CellQuoting::Exact };
        let options = ExportOptions::new().filter(text::filter(filter)).columns(columns).quoting(quoting);
        let mut bytes = Vec::new();
        if by_path {
            let path = self.path("export.csv");
            pool.export_csv_path(&path, &options)?;
            bytes = std::fs::read(&path).unwrap();
            remove(&path);
        } else {
            pool.export_csv(&mut bytes, &options)?;
        }
        Ok(vec![String::from_utf8(bytes).unwrap()])
    }
}

fn options(import: &Import) -> ImportOptions {
    let mut options = ImportOptions::new()
        .on_duplicate(match import.duplicates {
            Duplicates::Add => OnDuplicate::Add,
            Duplicates::Skip => OnDuplicate::Skip,
            Duplicates::Fail => OnDuplicate::Fail,
        })
        .on_bad_row(if import.skip_bad { OnBadRow::Skip } else { OnBadRow::Fail })
        .delimiter(import.delimiter)
        .origin(&text::origin(&import.from));
    if let Some(rows) = import.commit_every {
        options = options.commit_every(rows);
    }
    if let Some(entity) = import.entity {
        options = options.entity_type(entity);
    }
    if import.origin_columns {
        options = options.origin_columns(Some("flow"), Some("run"), Some("step"));
    }
    if import.created_column {
        options = options.created_at_column("created");
    }
    if import.version_column {
        options = options.version_column("version");
    }
    options
}
