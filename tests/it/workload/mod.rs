//! Operations of every kind on a store, next to a model of its contents.
//!
//! A [`Driver`] has a store open, runs [`Op`]s, and compares each answer with that of the
//! [`Model`](model::Model). On a failing disk, it knows what was acknowledged: the states that the store may
//! be in now, and those that it may be in after it is opened again. A test that breaks the disk asks the
//! driver if that holds. In a file, the driver also sets the clock, and compares all contents after each
//! operation.

mod calls;
mod driver;
pub(crate) mod filter;
mod guards;
pub(crate) mod life;
mod look;
pub(crate) mod model;
mod op;
pub(crate) mod random;
mod readers;
mod seen;

use std::time::Duration;

use datapool_store::Durability;

pub(crate) use self::driver::{Driver, Resting};
pub(crate) use self::op::{Answer, How, Named, Op, Outcome, Reading, Told, is_passed};

/// Only explicit operations flush, because the interval is longer than any test.
pub(crate) const RELAXED: Durability = Durability::Relaxed { flush_every: Duration::from_hours(1) };
