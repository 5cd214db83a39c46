//! The registered entries and pools that a query includes with its records.
//!
//! Always holds: they are as of the same moment as the records.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::seen::Seen;
use crate::error::Result;
use crate::model::{Included, Record, Registered, RegisteredEntry, RegisteredId};
use crate::postgres::catalog::pool_row;
use crate::postgres::connection::Failure;
use crate::postgres::registry;
use crate::query::RecordInclude;

/// Adds the entries that a query includes to its records.
pub(super) fn include(
    seen: &mut Seen<'_>,
    records: &mut [Record],
    what: RecordInclude,
) -> Result<(), Failure> {
    match what {
        RecordInclude::Flow => resolve(seen, records, |record| record.flow_id.clone(), Included::set_flow),
        RecordInclude::FlowRun => {
            resolve(seen, records, |record| record.flow_run_id.clone(), Included::set_flow_run)
        }
        RecordInclude::FlowStep => {
            resolve(seen, records, |record| record.step_id.clone(), Included::set_flow_step)
        }
        RecordInclude::EntityType => {
            resolve(seen, records, |record| Some(record.entity_type_id), Included::set_entity_type)
        }
        RecordInclude::DataPool => {
            if !records.is_empty() {
                let pool = Arc::new(pool_row(seen.connection, seen.head.pool)?);
                for record in records {
                    record.included.set_data_pool(Some(Arc::clone(&pool)));
                }
            }
            Ok(())
        }
    }
}

fn resolve<Id: RegisteredId + Eq + std::hash::Hash>(
    seen: &mut Seen<'_>,
    records: &mut [Record],
    id_of: impl Fn(&Record) -> Option<Id>,
    set: impl Fn(&mut Included, Option<Arc<Registered<Id>>>),
) -> Result<(), Failure> {
    let keys: BTreeSet<Vec<u8>> = records.iter().filter_map(|record| Some(id_of(record)?.to_key())).collect();
    let found = registry::entries(seen.connection, Id::KIND, keys.into_iter().collect())?;
    let mut entries = HashMap::new();
    for entry in found {
        let key = entry.key.clone();
        entries.insert(key, Arc::new(RegisteredEntry::read::<Id>(entry)?));
    }
    for record in records {
        let entry = id_of(record).and_then(|id| entries.get(&id.to_key()).cloned());
        set(&mut record.included, entry);
    }
    Ok(())
}
