//! The origins of a tail's records, as numbers.
//!
//! Owns: the numbers of origins, flows, runs and steps. Always holds: the text of an id is stored once, even
//! if many origins have it.

use std::hash::Hash;
use std::sync::Arc;

use crate::engine::pool::interner::Interner;
use crate::ids::{FlowId, FlowRunId, FlowStepId};
use crate::model::Origin;
use crate::query::RecordFilter;

/// The number that stands for no origin, or for an absent part of an origin.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Origins {
    flows: Interner<FlowId>,
    runs: Interner<FlowRunId>,
    steps: Interner<FlowStepId>,
    /// The numbers of each origin's flow, run and step.
    parts: Interner<[u32; 3]>,
    /// The last origin and its number. It is kept because most records come in batches with one origin.
    last: Option<(Arc<Origin>, u32)>,
}

fn number_of<T: Clone + Eq + Hash>(numbered: &mut Interner<T>, id: Option<&T>) -> u32 {
    id.map_or(NONE, |id| numbered.number(id))
}

/// Returns the numbers of the ids that a filter lists, or `None` if it lists none.
fn wanted_numbers<T: Clone + Eq + Hash>(numbered: &Interner<T>, ids: &[T]) -> Option<Vec<u32>> {
    (!ids.is_empty()).then(|| ids.iter().filter_map(|id| numbered.find(id)).collect())
}

impl Origins {
    /// Returns the number of an origin.
    pub(super) fn number(&mut self, origin: Arc<Origin>) -> u32 {
        if let Some((_, number)) = self.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, &origin)) {
            return *number;
        }
        let number = self.parts.number(&[
            number_of(&mut self.flows, origin.flow()),
            number_of(&mut self.runs, origin.run()),
            number_of(&mut self.steps, origin.step()),
        ]);
        self.last = Some((origin, number));
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<Origin> {
        let [flow, run, step] = *self.parts.get(number)?;
        Some(Origin {
            flow: self.flows.get(flow).cloned(),
            run: self.runs.get(run).cloned(),
            step: self.steps.get(step).cloned(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Returns true for each origin that passes the filter, by number, or `None` if the filter has no
    /// conditions on origins.
    pub(super) fn passing(&self, filter: &RecordFilter) -> Option<Vec<bool>> {
        let wanted = [
            wanted_numbers(&self.flows, &filter.flows),
            wanted_numbers(&self.runs, &filter.runs),
            wanted_numbers(&self.steps, &filter.steps),
        ];
        if wanted.iter().all(Option::is_none) {
            return None;
        }
        let passes = |parts: &[u32; 3]| {
            let takes = |(wanted, part): (&Option<Vec<u32>>, &u32)| {
                wanted.as_ref().is_none_or(|any| any.contains(part))
            };
            wanted.iter().zip(parts).all(takes)
        };
        Some(self.parts.iter().map(passes).collect())
    }
}
