//! Operations on claims.

use super::items::{FLOWS, RUNS};
use super::{Generator, HOUR, SECOND};
use crate::model::Model;
use crate::operation::{ClaimsFilter, Item, Operation, Which};

const OWNERS: [&str; 3] = ["worker-1", "worker-2", "ö"];

/// Returns true if a kept lease of this length is renewed while the program runs, of which the model cannot know. Shorter
/// ones cannot be kept.
fn is_renewed_soon(lease: i64) -> bool {
    (SECOND..HOUR).contains(&lease)
}

impl Generator {
    fn lease(&mut self) -> i64 {
        let choices = [0, 1_000, SECOND, 60 * SECOND, 300 * SECOND, 300 * SECOND, HOUR, 5 * HOUR, 24 * HOUR];
        *self.random.pick(&choices)
    }

    pub fn claims(&mut self, model: &Model) -> Operation {
        let pool = self.a_pool(model);
        let guards: Vec<u64> = model.guards.keys().copied().collect();
        let tokens: Vec<u64> = model.tokens.keys().copied().collect();
        if guards.is_empty() || (guards.len() < 14 && self.random.once_in(4)) {
            return self.new_claim(model, pool);
        }
        let guard = *self.random.pick(&guards);
        match self.random.weighted(&[14, 6, 6, 6, 8, 3, 4, 2, 3, 6, 6]) {
            0 => {
                let which = self.which(model, guard);
                Operation::Confirm { guard, which, results: self.random.once_in(2) }
            }
            1 => Operation::Release { guard, which: self.which(model, guard) },
            2 if guards.len() > 5 && !self.limits.one_commit => Operation::DropGuard { guard },
            3 => Operation::IntoToken { guard },
            4 if !tokens.is_empty() && guards.len() < 20 => {
                Operation::Resume { token: *self.random.pick(&tokens), guard: self.number() }
            }
            5 if guards.len() < 16 => {
                let owner = (*self.random.pick(&OWNERS)).to_owned();
                let first_guard = self.number();
                self.counter += 100;
                Operation::ResumeOwner { pool, owner, first_guard }
            }
            6 => {
                let lease = self.lease();
                let is_kept = model.guards[&guard].kept;
                Operation::Extend {
                    guard,
                    lease: if is_kept && is_renewed_soon(lease) { HOUR } else { lease },
                }
            }
            7 if !is_renewed_soon(model.guards[&guard].lease) => Operation::KeepAlive { guard },
            8 => Operation::ReleaseClaims { pool, filter: self.claims_filter() },
            9 => Operation::ListClaims { pool },
            _ => Operation::Wait { pool, items: self.few(model, pool) },
        }
    }

    fn new_claim(&mut self, model: &Model, pool: u64) -> Operation {
        let count = self.random.between(1, 8);
        let mut items: Vec<Item> = (0..count).map(|_| self.item()).collect();
        if self.random.once_in(3) {
            items = self.few(model, pool);
        }
        let owner = self.random.once_in(2).then(|| (*self.random.pick(&OWNERS)).to_owned());
        let (from, lease, guard) = (self.origin(), self.lease(), self.number());
        Operation::Claim { pool, items, from, lease, owner, guard }
    }

    fn which(&mut self, model: &Model, guard: u64) -> Which {
        let open = &model.guards[&guard].open;
        let mut chosen: Vec<usize> = open.keys().copied().filter(|_| self.random.once_in(2)).collect();
        match self.random.below(4) {
            0 => {
                if self.random.once_in(12) {
                    chosen.push(97);
                }
                Which::Indexes(chosen)
            }
            1 => {
                // The value of a lost item may be gone from the file, and then its key names nothing.
                chosen.retain(|index| model.is_owned(guard, *index));
                let unversioned = |index: &usize| Item { version: None, ..open[index].clone() };
                let mut items: Vec<Item> = chosen.iter().map(unversioned).collect();
                if self.random.once_in(12) {
                    items.push(Item { entity: 1, value: "nobody".to_owned(), version: None });
                }
                Which::Keys(items)
            }
            _ => Which::All,
        }
    }

    fn claims_filter(&mut self) -> ClaimsFilter {
        let mut filter = ClaimsFilter::default();
        match self.random.below(8) {
            0 => filter.owner = Some((*self.random.pick(&OWNERS)).to_owned()),
            1 => filter.flow = Some((*self.random.pick(&FLOWS)).to_owned()),
            2 => filter.run = Some((*self.random.pick(&RUNS)).to_owned()),
            3 => filter.older_than = Some(i64::try_from(self.random.below(7_200)).unwrap() * SECOND),
            4 => filter.lapsed = true,
            5 => filter.all = self.random.once_in(3),
            _ => {}
        }
        if self.random.once_in(4) {
            filter.lapsed = true;
        }
        filter
    }
}
