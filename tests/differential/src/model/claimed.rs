//! The claims of a pool: which are there, which run, and what they own.

use super::dedupe::Decision;
use super::pool::{Claim, HOUR, Held, Name, Pool};
use crate::answer::maybe_line;
use crate::operation::{Filter, From3, Item};

pub fn name(item: &Item) -> Name {
    (item.entity, item.value.clone())
}

pub fn in_flight(from: &From3, until: i64) -> String {
    format!("in flight by {from:?} until {until}")
}

impl Pool {
    pub fn claim_of(&self, number: u64) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.number == number && self.exists(claim))
    }

    pub fn claim_mut(&mut self, number: u64) -> Option<&mut Claim> {
        self.claims.iter_mut().find(|claim| claim.number == number)
    }

    /// A claim is there until an hour after its lease.
    fn exists(&self, claim: &Claim) -> bool {
        self.moment < claim.end.saturating_add(HOUR)
    }

    pub fn is_listed(&self, claim: &Claim) -> bool {
        self.exists(claim)
    }

    pub fn sweep(&mut self) {
        let gone: Vec<u64> = self.claims.iter().filter(|c| !self.exists(c)).map(|c| c.number).collect();
        gone.into_iter().for_each(|number| self.end_claim(number));
    }

    pub fn end_claim(&mut self, number: u64) {
        self.claims.retain(|claim| claim.number != number);
        self.owners.retain(|_, owner| *owner != number);
    }

    /// Returns the running claim that owns an item's key, with the item as it was claimed.
    pub fn running(&self, item: &Item) -> Option<(&Item, &Claim)> {
        let claim = self.claim_of(*self.owners.get(&name(item))?)?;
        if self.moment >= claim.end {
            return None;
        }
        let held = claim.held.iter().find(|held| held.open && name(&held.item) == name(item))?;
        Some((&held.item, claim))
    }

    pub fn owns(&self, claim: &Claim, held: &Held) -> bool {
        held.open && self.owners.get(&name(&held.item)) == Some(&claim.number)
    }

    pub fn list_claims(&self) -> Vec<String> {
        let listed = self.claims.iter().filter(|claim| self.is_listed(claim));
        let line = |claim: &Claim| {
            let Claim { from, owner, since, until, held, end, .. } = claim;
            let lapsed = self.moment >= *end;
            format!("{from:?} {owner:?} since {since} until {until} lapsed {lapsed} items {}", held.len())
        };
        listed.map(line).collect()
    }

    pub fn wait(&self, items: &[Item]) -> Vec<String> {
        let line = |item: &Item| match self.decide(item, false) {
            Decision::Duplicate => maybe_line(self.oldest(item).map(super::Record::row).as_ref()),
            Decision::New | Decision::Changed => "free".to_owned(),
            Decision::InFlight => {
                let claim = self.running(item).map(|(_, claim)| claim);
                claim.map_or_else(String::new, |claim| in_flight(&claim.from, claim.until))
            }
        };
        items.iter().map(line).collect()
    }

    /// A deletion in all pools takes the keys that it names from the claims.
    pub fn void_named(&mut self, filter: &Filter) {
        if filter.values.is_empty() || filter.after.is_some() || filter.before.is_some() {
            return;
        }
        for claim in &self.claims {
            for held in &claim.held {
                let named = filter.values.contains(&held.item.value)
                    && (filter.entities.is_empty() || filter.entities.contains(&held.item.entity))
                    && filter.takes_from(&claim.from);
                if named && self.owners.get(&name(&held.item)) == Some(&claim.number) {
                    self.owners.remove(&name(&held.item));
                }
            }
        }
    }
}
