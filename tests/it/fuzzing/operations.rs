//! Any sequence of operations on a failing disk, with killed processes and losses of power where the input
//! says so. The input controls what [`Life`] otherwise does with random numbers.

use datapool_store::{Durability, Recovery};

use crate::support::Numbers;
use crate::workload::RELAXED;
use crate::workload::life::Life;

/// An input with many operations takes long, and rarely finds more than several short ones.
const TRANSITIONS_MAX: u64 = 64;

pub(super) fn run(bytes: &[u8]) {
    let mut numbers = Numbers::given(bytes);
    let durability = if numbers.next(2) == 0 { Durability::Immediate } else { RELAXED };
    let recovery = if numbers.next(2) == 0 { Recovery::Rebuild } else { Recovery::Instant };
    Life::new(durability, recovery, numbers).live(TRANSITIONS_MAX);
}
