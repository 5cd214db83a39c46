//! Copying registered entity types, flows, flow runs and flow steps.

use std::fmt::{self, Display};

use datapool_store::{Error, Registered};
use serde::Serialize;

use super::notes;
use super::side::Side;
use crate::failure::Failure;
use crate::output;

/// The number of entries that are registered in one commit.
const BATCH: usize = 1_024;

/// The numbers of entries of the source, all of which the destination has now.
#[derive(Debug, Default, Serialize)]
pub(super) struct RegisteredReport {
    entity_types: u64,
    flows: u64,
    flow_runs: u64,
    flow_steps: u64,
    /// Entries that the destination already had with another name or other attributes. They stay as they are.
    kept: u64,
}

impl Display for RegisteredReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.entity_types, "entity type"),
            (self.flows, "flow"),
            (self.flow_runs, "flow run"),
            (self.flow_steps, "flow step"),
        ];
        let parts = parts.map(|(count, noun)| output::number_of(count, noun));
        f.write_str(&parts.join(", "))?;
        if self.kept > 0 {
            let others = output::number_of(self.kept, "entry").replace("entrys", "entries");
            write!(f, "; {others} that TO already had stay as they are")?;
        }
        Ok(())
    }
}

/// Copies the entries that the destination does not have.
pub(super) fn copy(from: &Side<'_>, to: &Side<'_>) -> Result<RegisteredReport, Failure> {
    let (source, target) = (from.store, to.store);
    for run in source.flow_runs() {
        let run = run.map_err(|error| from.failed(error))?;
        if run.id.as_str().starts_with(notes::PREFIX) {
            return Err(Failure::new(format!(
                "{} is itself the destination of an unfinished copy (flow run {:?}): finish that copy first",
                from.name,
                run.id.as_str()
            )));
        }
    }
    let mut merge = Merge { from, to, kept: 0 };
    let entity_types =
        merge.run(source.entity_types(), target.entity_types(), |new| target.put_entity_types(new))?;
    let flows = merge.run(source.flows(), target.flows(), |new| target.put_flows(new))?;
    let flow_runs = merge.run(source.flow_runs(), target.flow_runs(), |new| target.put_flow_runs(new))?;
    let flow_steps = merge.run(source.flow_steps(), target.flow_steps(), |new| target.put_flow_steps(new))?;
    Ok(RegisteredReport { entity_types, flows, flow_runs, flow_steps, kept: merge.kept })
}

struct Merge<'a> {
    from: &'a Side<'a>,
    to: &'a Side<'a>,
    kept: u64,
}

impl Merge<'_> {
    /// Registers the entries that the destination lacks. Both sides are in the order of their ids. Returns the number of
    /// entries of the source.
    fn run<Id: Ord + Clone>(
        &mut self,
        source: impl Iterator<Item = Result<Registered<Id>, Error>>,
        target: impl Iterator<Item = Result<Registered<Id>, Error>>,
        put: impl Fn(&[Registered<Id>]) -> Result<(), Error>,
    ) -> Result<u64, Failure> {
        let flush = |new: &mut Vec<_>| {
            put(new).map_err(|error| self.to.failed(error))?;
            notes::committed();
            new.clear();
            Ok::<_, Failure>(())
        };
        let (mut new, mut entries, mut kept) = (Vec::new(), 0, 0);
        let mut target = target.map(|entry| entry.map_err(|error| self.to.failed(error)));
        let mut there = target.next().transpose()?;
        for entry in source {
            let entry = entry.map_err(|error| self.from.failed(error))?;
            entries += 1;
            while there.as_ref().is_some_and(|there| there.id < entry.id) {
                there = target.next().transpose()?;
            }
            match &there {
                Some(there) if there.id == entry.id => {
                    kept += u64::from(there.name != entry.name || there.attributes != entry.attributes);
                }
                _ => new.push(entry),
            }
            if new.len() >= BATCH {
                flush(&mut new)?;
            }
        }
        if !new.is_empty() {
            flush(&mut new)?;
        }
        self.kept += kept;
        Ok(entries)
    }
}
