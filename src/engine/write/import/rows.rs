//! The rows of an import before they reach the writer: read and hashed, one buffer at a time.
//!
//! Owns: the buffers, and the thread that reads ahead. Must not know: what happens to the rows.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};

use crate::backend::batch::Batch;
use crate::backend::fingerprint::HashKey;
use crate::backend::import::{ImportRow, RowSource};
use crate::engine::pool::tail::TailEntry;
use crate::error::Result;
use crate::model::Origin;
use crate::parallel::spawn;
use crate::time::Timestamp;

/// The number of rows that are looked up, sorted and appended together.
const BUFFER_ROWS: usize = 65_536;
/// The number of bytes of values at which a buffer is full.
const BUFFER_BYTES: usize = 16 << 20;

/// Hashed rows of the source.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) rows: Batch,
    /// The line of each row.
    pub(super) lines: Vec<u64>,
    /// The origin of each row, up to the last row that has one.
    pub(super) origins: Vec<Option<Arc<Origin>>>,
    /// The time of each row, if the rows have times.
    pub(super) times: Vec<Timestamp>,
}

impl Buffer {
    /// Replaces the contents with the next rows.
    pub(super) fn fill(&mut self, hash_key: &HashKey, source: &mut dyn RowSource) -> Result<()> {
        self.rows.clear();
        self.lines.clear();
        self.origins.clear();
        self.times.clear();
        while !self.is_full() && source.next(&mut |row| self.push(hash_key, row))? {}
        Ok(())
    }

    fn push(&mut self, hash_key: &HashKey, row: ImportRow<'_>) {
        if let Some(origin) = row.origin {
            self.origins.resize(self.rows.len(), None);
            self.origins.push(Some(Arc::clone(origin)));
        }
        self.times.extend(row.created_at);
        self.lines.push(row.line);
        self.rows.push(hash_key, row.entity_type, row.value, row.version);
    }

    pub(super) fn tail_entry(&self, row: usize) -> Option<TailEntry> {
        let origin = self.origins.get(row).cloned().flatten();
        TailEntry::of(&self.rows, row).map(|entry| TailEntry { origin, ..entry })
    }

    /// Returns false if there are no more rows.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= BUFFER_ROWS || self.rows.bytes() >= BUFFER_BYTES
    }
}

/// A thread that reads the rows after a full buffer.
pub(super) struct ReadAhead<'scope> {
    /// The filled buffers. One may wait while the next is being filled.
    pub(super) buffers: mpsc::Receiver<Buffer>,
    /// Receives buffers to be filled again, because fresh memory is slow to write to.
    pub(super) used: mpsc::Sender<Buffer>,
    pub(super) thread: ScopedJoinHandle<'scope, Result<()>>,
}

pub(super) fn read_ahead<'scope>(
    scope: &'scope Scope<'scope, '_>,
    hash_key: &'scope HashKey,
    source: &'scope mut (dyn RowSource + Send),
) -> Result<ReadAhead<'scope>> {
    let (sender, buffers) = mpsc::sync_channel(1);
    let (used, to_fill) = mpsc::channel::<Buffer>();
    let thread = spawn(scope, "datapool-read", move || {
        loop {
            let mut buffer = to_fill.try_recv().unwrap_or_default();
            buffer.fill(hash_key, source)?;
            let is_last = !buffer.is_full();
            // The receiver is dropped if the import has failed.
            if sender.send(buffer).is_err() || is_last {
                return Ok(());
            }
        }
    })?;
    Ok(ReadAhead { buffers, used, thread })
}
