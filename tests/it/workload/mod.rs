//! Operations of every kind on a store, beside a model of what it must hold.
//!
//! A [`Driver`] has a store open, does what [`Op`]s say, and compares each answer with what the [`Model`](model::Model) says. On a
//! disk that fails it knows what was acknowledged: which states the store may be in now, and which it may be in once it was opened
//! again. Whoever breaks the disk asks it whether that still holds. In a file it sets the clock as well, and looks at
//! everything after each operation.

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

/// Flushed when an operation says so: the interval is longer than any test.
pub(crate) const RELAXED: Durability = Durability::Relaxed { flush_every: Duration::from_hours(1) };
