//! Trying a call again: after a lost connection for a time, and after conflicts a number of times.
//!
//! Owns: [`Patience`]. Must not know: what the call does. Only calls that may be executed again use it.

use std::thread;
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::error::{ErrorKind, Result};

/// The number of conflicts after which a transaction is not tried again.
const CONFLICTS_MAX: u32 = 20;

/// The bounds within which a call is tried again.
#[derive(Debug)]
pub(crate) struct Patience {
    until: Instant,
    pause: Duration,
    conflicts: u32,
}

impl Patience {
    pub(crate) fn new(retry_for: Duration) -> Self {
        Self { until: Instant::now() + retry_for, pause: Duration::from_millis(5), conflicts: 0 }
    }

    /// Waits before the next attempt. Returns the error if there is none.
    pub(crate) fn next(&mut self, failure: Failure) -> Result<()> {
        match failure {
            Failure::Refused(error) => return Err(error),
            Failure::Again(error) if self.conflicts >= CONFLICTS_MAX => return Err(error),
            Failure::Again(_) => self.conflicts += 1,
            Failure::Lost(error) if error.kind() == ErrorKind::Closed || Instant::now() >= self.until => {
                return Err(error);
            }
            Failure::Lost(_) => {}
        }
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(Duration::from_millis(250));
        Ok(())
    }
}
