//! Vacuuming: replaces the file with a copy of its live data.
//!
//! Always holds: the leader of the writer's queue does this, so nothing is written meanwhile. The file with
//! the store's name is always complete.

use std::time::Instant;

use crate::backend::Observer;
use crate::engine::Engine;
use crate::engine::maintain::copy::{Copied, CopyError, Source, copy};
use crate::engine::maintain::observer::Watch;
use crate::engine::storage::poison::Reason;
use crate::engine::storage::session::ReaderKind;
use crate::engine::write::log::{Event, log};
use crate::engine::write::writer::Writer;
use crate::error::{ErrorKind, Result};
use crate::model::VacuumReport;

impl Engine {
    /// Replaces the file with a copy that has only live data.
    ///
    /// # Errors
    ///
    /// `Busy`; `ReadOnly`; `Cancelled`; `Closed`; `StorageFull`, `Io` or `Storage` if the copy cannot be
    /// written; `Corrupt` if the file is damaged; `Storage` if it cannot be read; `OutcomeUnknown`.
    pub(crate) fn vacuum(&self, observer: Observer<'_>) -> Result<VacuumReport> {
        self.check_may_write()?;
        self.refuse_damage("vacuuming")?;
        // Expired records must also be expired in the copy, whatever the clock shows later.
        self.store_expiry()?;
        Watch::over(observer, |watch| self.exclusive(|writer| self.vacuum_watched(writer, watch)))
    }

    fn vacuum_watched(&self, writer: &mut Writer, watch: &mut Watch<'_>) -> Result<VacuumReport> {
        self.check_writable()?;
        self.flush_now()?;
        let (started, before) = (Instant::now(), self.file_size()?);
        let reader = self.reader(ReaderKind::Vacuum)?;
        let replacement = self.opener.replacement()?;
        let copied = {
            let source =
                Source { engine: self, snapshot: self.snapshot()?, reader: &reader, now: self.clock.read() };
            copy(&source, &replacement.medium, watch)
        };
        let Copied { records, .. } = copied.map_err(|error| match error {
            CopyError::Written(error) => self.opener.not_copied(error),
            CopyError::Other(error) => error,
        })?;
        let store_id = self.store_id;
        let exchanged = self.exchange_session(writer, "vacuuming", |session| {
            self.opener.replace(replacement, session, store_id)
        });
        if let Err(error) = &exchanged
            && error.kind() == ErrorKind::OutcomeUnknown
        {
            self.poison.raise(Reason::OutcomeUnknown);
        }
        exchanged?;
        let after = self.file_size()?;
        log(&Event::Vacuumed { records, before, after, took: started.elapsed() });
        Ok(VacuumReport::new(before, after, records))
    }
}
