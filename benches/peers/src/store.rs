//! datapool-store itself, through its public API.

use std::path::Path;
use std::time::Duration;

use datapool_store::{DataPoolStore, Durability, ManualClock, Mode, Pool, Registered, StoreOptions, limits};

use crate::Result;
use crate::common::{Row, origin};
use crate::data::{self, DataSet, Named, POOL, Run, time_of};

/// Opens the pool of a data set. The handle keeps the store open.
pub(crate) fn open(directory: &Path, set: DataSet) -> Result<Pool> {
    let path = data::file(directory, "store", set, |path| build(path, set))?;
    // The file is opened again, as with SQLite, so that neither benefits from having just written.
    Ok(StoreOptions::new().open(path)?.pool_named(POOL)?)
}

/// Registers every name, then tracks every run as a flow would.
///
/// The store is relaxed, so that building it is fast. This does not affect reading.
fn build(path: &Path, set: DataSet) -> Result<()> {
    let clock = ManualClock::starting_at(time_of(0));
    let durability = Durability::Relaxed { flush_every: Duration::from_millis(500) };
    let options =
        StoreOptions::new().durability(durability).hash_key(*b"a bench hash key").clock(clock.clone());
    let store = options.open(path)?;
    let pool = store.get_or_create_pool(POOL)?;
    register(&store, set)?;
    for Run { number, time, rows } in set.runs() {
        clock.set(time);
        let verdicts = pool.dedupe(Mode::FilterAndTrack, &rows, Row::key, &origin(number))?;
        assert_eq!(verdicts.new_count(), rows.len(), "run {number} has a value that another one had before");
    }
    Ok(store.flush()?)
}

fn register(store: &DataPoolStore, set: DataSet) -> Result<()> {
    store.put_entity_types(&registered(data::entity_types())?)?;
    store.put_flows(&registered(data::flows())?)?;
    // A data set may have more runs than one call takes.
    for runs in registered(data::flow_runs(set))?.chunks(limits::BATCH_MAX_ITEMS) {
        store.put_flow_runs(runs)?;
    }
    store.put_flow_steps(&registered(data::flow_steps())?)?;
    Ok(())
}

fn registered<Own, Id: Into<Own>>(all: impl Iterator<Item = Named<Id>>) -> Result<Vec<Registered<Own>>> {
    let entry = |Named { id, name, attributes }: Named<Id>| {
        let mut entry = Registered::new(id, name);
        entry.attributes = attributes.parse()?;
        Ok(entry)
    };
    all.map(entry).collect()
}
