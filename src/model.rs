//! What the store holds: pools, records, origins, and the keys that are compared.
//!
//! Owns: the rows as users see them, and the checks of their fields. Must not know: how they are stored.

mod key;
mod pool;
mod record;

pub(crate) use key::check_value;
pub use key::{CompositeKey, Key};
pub(crate) use pool::DescriptionUpdate;
pub use pool::{DataPool, NewPool, PoolUpdate};
pub use record::{Origin, Record};
