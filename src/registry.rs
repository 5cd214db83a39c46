//! The store's methods for registered entity types, flows, flow runs and flow steps.

use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::batch::check_batch_len;
use crate::error::Result;
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId};
use crate::model::{EntityType, Flow, FlowRun, FlowStep, Registered, RegisteredEntry, RegisteredId};
use crate::shared::Shared;
use crate::store::DataPoolStore;
use crate::time::Timestamp;

/// The number of entries that an iteration reads in one step.
const SLICE_ENTRIES: usize = 256;

/// Iterates over everything registered of one kind, by ascending id (text ids by their bytes). It reads in
/// slices, so an entry that is put or deleted meanwhile may or may not appear. Returned by
/// [`DataPoolStore::flows`] and the methods like it.
///
/// Each item is a result. After an error there are no more items.
#[derive(Debug)]
#[must_use = "nothing is read until it is iterated"]
pub struct Registrations<T> {
    shared: Arc<Shared>,
    /// Reads the entries after the given one, or from the first one.
    read: fn(&dyn Backend, Option<&T>) -> Result<Vec<T>>,
    slice: std::vec::IntoIter<T>,
    last: Option<T>,
    finished: bool,
}

fn registrations<Id: RegisteredId>(shared: Arc<Shared>) -> Registrations<Registered<Id>> {
    let read = |backend: &dyn Backend, last: Option<&Registered<Id>>| {
        let after = last.map(|last| last.id.to_key());
        let entries = backend.registered_after(Id::KIND, after.as_deref(), SLICE_ENTRIES)?;
        entries.into_iter().map(RegisteredEntry::read).collect()
    };
    Registrations { shared, read, slice: Vec::new().into_iter(), last: None, finished: false }
}

impl<T: Clone> Iterator for Registrations<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.slice.len() == 0 && !self.finished {
            match (self.read)(&*self.shared.backend, self.last.as_ref()) {
                Ok(entries) => {
                    self.finished = entries.len() < SLICE_ENTRIES;
                    self.last = entries.last().cloned();
                    self.slice = entries.into_iter();
                }
                Err(error) => {
                    self.finished = true;
                    return Some(Err(error));
                }
            }
        }
        self.slice.next().map(Ok)
    }
}

impl<T: Clone> std::iter::FusedIterator for Registrations<T> {}

impl DataPoolStore {
    fn put_registered<Id: RegisteredId>(&self, entries: &[Registered<Id>]) -> Result<()> {
        self.backend().check_may_write()?;
        check_batch_len(entries.len())?;
        let entries = entries.iter().map(RegisteredEntry::of).collect::<Result<_>>()?;
        self.backend().put_registered(Id::KIND, entries)
    }

    fn registered<Id: RegisteredId>(&self, id: &Id) -> Result<Option<Registered<Id>>> {
        let entry = self.backend().registered(Id::KIND, &id.to_key())?;
        entry.map(RegisteredEntry::read).transpose()
    }

    fn delete_registered<Id: RegisteredId>(&self, id: &Id) -> Result<bool> {
        self.backend().check_may_write()?;
        self.backend().delete_registered(Id::KIND, &id.to_key())
    }

    fn delete_registered_before<Id: RegisteredId>(&self, time: Timestamp) -> Result<u64> {
        self.backend().check_may_write()?;
        self.backend().delete_registered_before(Id::KIND, time)
    }
}

macro_rules! registry {
    ($noun:literal, $type:ident, $id:ident, $put:ident, $put_all:ident, $get:ident, $list:ident, $delete:ident, $delete_before:ident) => {
        impl DataPoolStore {
            #[doc = concat!("Registers one ", $noun, ", or replaces the entry of its id, in a commit of its own.")]
            ///
            /// Listings [include](crate::RecordQuery::include) it from then on, also with records that were
            /// tracked before. It stays until it is deleted, even if its records are deleted.
            ///
            /// # Errors
            ///
            /// `LimitExceeded` or `InvalidArgument` for a bad id, a name of more than 255 characters, or
            /// attributes of more than 65,536 bytes or 64 levels; `StorageFull`, `OutcomeUnknown` or
            /// `Storage`.
            pub fn $put(&self, entry: $type) -> Result<()> {
                self.put_registered(&[entry])
            }

            #[doc = concat!("Like [`", stringify!($put), "`](Self::", stringify!($put), "), but for many entries, in one commit.")]
            /// If an id occurs several times, the last entry wins.
            ///
            /// # Errors
            ///
            #[doc = concat!("The errors of [`", stringify!($put), "`](Self::", stringify!($put), "); also `LimitExceeded` for more than 1,048,576 ")]
            #[doc = "entries; then none is registered."]
            pub fn $put_all(&self, entries: &[$type]) -> Result<()> {
                self.put_registered(entries)
            }

            #[doc = concat!("Returns the registered ", $noun, " of that id; `None` if there is none.")]
            ///
            /// # Errors
            ///
            /// `Storage` or `Corrupt` if reading fails.
            pub fn $get(&self, id: impl Into<$id>) -> Result<Option<$type>> {
                self.registered(&id.into())
            }

            #[doc = concat!("Returns every registered ", $noun, ", by ascending id.")]
            pub fn $list(&self) -> Registrations<$type> {
                registrations(Arc::clone(self.shared()))
            }

            #[doc = concat!("Removes the registered ", $noun, " of that id; its records stay. Returns true if there was one.")]
            ///
            /// # Errors
            ///
            /// `StorageFull`, `OutcomeUnknown` or `Storage`.
            pub fn $delete(&self, id: impl Into<$id>) -> Result<bool> {
                self.delete_registered(&id.into())
            }

            #[doc = concat!("Removes every ", $noun, " that was registered or last replaced before a point in time, in one commit; ")]
            /// records stay. Returns the number of entries removed.
            ///
            /// # Errors
            ///
            /// `Corrupt` if an entry cannot be read, and then none is removed; `StorageFull`,
            /// `OutcomeUnknown` or `Storage`.
            pub fn $delete_before(&self, time: Timestamp) -> Result<u64> {
                self.delete_registered_before::<$id>(time)
            }
        }
    };
}

registry!(
    "entity type",
    EntityType,
    EntityTypeId,
    put_entity_type,
    put_entity_types,
    entity_type,
    entity_types,
    delete_entity_type,
    delete_entity_types_before
);
registry!("flow", Flow, FlowId, put_flow, put_flows, flow, flows, delete_flow, delete_flows_before);
registry!(
    "flow run",
    FlowRun,
    FlowRunId,
    put_flow_run,
    put_flow_runs,
    flow_run,
    flow_runs,
    delete_flow_run,
    delete_flow_runs_before
);
registry!(
    "flow step",
    FlowStep,
    FlowStepId,
    put_flow_step,
    put_flow_steps,
    flow_step,
    flow_steps,
    delete_flow_step,
    delete_flow_steps_before
);
