//! Any row of operations on a disk that fails, a process that is killed and a power supply that goes when the input says
//! so: what [`Life`] does with random numbers, steered by the input.

use datapool_store::{Durability, Recovery};

use crate::support::Numbers;
use crate::workload::RELAXED;
use crate::workload::life::Life;

/// An input of many operations takes long, and is rarely more than several short ones.
const TRANSITIONS_MAX: u64 = 64;

pub(super) fn run(bytes: &[u8]) {
    let mut numbers = Numbers::given(bytes);
    let durability = if numbers.next(2) == 0 { Durability::Immediate } else { RELAXED };
    let recovery = if numbers.next(2) == 0 { Recovery::Rebuild } else { Recovery::Instant };
    Life::new(durability, recovery, numbers).live(TRANSITIONS_MAX);
}
