//! Claims, the guards and tokens that a program holds of them, and waiting.

use std::collections::BTreeMap;

use datapool_store::{ErrorKind, Version};

use super::Model;
use super::claimed::{in_flight, name};
use super::dedupe::Decision;
use super::pool::{Claim, HOUR, Held, Name};
use crate::answer::{Answer, Refusal, maybe_line};
use crate::operation::{ClaimsFilter, From3, Item, Which, check_items};

/// A guard: the claim that it is of, and the items that it has not settled itself.
#[derive(Debug, Clone)]
pub struct Guard {
    pub pool: u64,
    pub claim: u64,
    pub grant: u64,
    /// The length of its lease, as far as it knows.
    pub lease: i64,
    pub kept: bool,
    pub open: BTreeMap<usize, Item>,
}

#[derive(Debug, Clone)]
pub struct Token {
    pub pool: u64,
    pub claim: u64,
    pub grant: u64,
}

fn check_lease(lease: i64) -> Result<(), Refusal> {
    let good = (1_000..=365 * 24 * HOUR).contains(&lease);
    if good { Ok(()) } else { Err(Refusal::of(ErrorKind::LimitExceeded)) }
}

/// The result that is kept with an item: some have none.
pub fn result_of(index: usize) -> Option<Vec<u8>> {
    (!index.is_multiple_of(3)).then(|| format!("result of {index}").repeat(index % 7).into_bytes())
}

impl Model {
    #[allow(clippy::too_many_arguments)]
    pub fn claim(
        &mut self,
        id: u64,
        items: &[Item],
        from: &From3,
        lease: i64,
        owner: Option<&str>,
        guard: u64,
    ) -> Answer {
        let (now, moment) = (self.now, self.moment());
        let pool = self.pool(id)?;
        check_lease(lease)?;
        check_items(items)?;
        let (number, until) = (pool.next_claim, now + lease);
        let mut claimed: BTreeMap<Name, Option<Version>> = BTreeMap::new();
        let (mut held, mut lines) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            if let Some(version) = claimed.get(&name(item)) {
                // What the record answers under a running claim, it answers here, too.
                let first =
                    pool.oldest(item).map(super::Record::row).filter(|_| pool.is_answered_by_record(item));
                lines.push(match first {
                    _ if *version == item.version => "duplicate none".to_owned(),
                    Some(first) => format!("duplicate {}", first.line()),
                    None => in_flight(from, until),
                });
                continue;
            }
            match pool.decide(item, false) {
                Decision::Duplicate => {
                    let first = pool.oldest(item).map(super::Record::row);
                    lines.push(format!("duplicate {}", maybe_line(first.as_ref())));
                }
                Decision::InFlight => lines.extend(pool.wait(std::slice::from_ref(item))),
                Decision::New | Decision::Changed => {
                    let seen = pool.newest(item).map(|record| record.id);
                    held.push(Held { index, item: item.clone(), seen, open: true });
                    claimed.insert(name(item), item.version);
                    lines.push("claimed".to_owned());
                }
            }
        }
        let open: BTreeMap<usize, Item> = held.iter().map(|held| (held.index, held.item.clone())).collect();
        if !held.is_empty() {
            pool.next_claim += 1;
            for held in &held {
                pool.owners.insert(name(&held.item), number);
            }
            let (from, owner) = (from.clone(), owner.map(str::to_owned));
            let end = moment + lease;
            pool.claims.push(Claim { number, grant: 0, from, owner, since: now, until, end, lease, held });
            pool.committed(now);
            lines.push(format!("until {until}"));
        }
        let claim = if open.is_empty() { 0 } else { number };
        let lines = lines.into_iter().chain(open_lines(&open)).collect();
        self.guards.insert(guard, Guard { pool: id, claim, grant: 0, lease, kept: false, open });
        Ok(lines)
    }

    /// True if the claim of a guard still owns the item with this index.
    pub fn is_owned(&self, guard: u64, index: usize) -> bool {
        let guard = &self.guards[&guard];
        let Some(pool) = self.pools.get(&guard.pool) else { return true };
        let claim = pool.claims.iter().find(|claim| claim.number == guard.claim);
        claim.is_some_and(|claim| claim.held.iter().any(|held| held.index == index && pool.owns(claim, held)))
    }

    /// Returns the indexes of the guard's open items that are meant.
    fn meant(&self, guard: &Guard, which: &Which) -> Result<Vec<usize>, Refusal> {
        let mut indexes = match which {
            Which::All => guard.open.keys().copied().collect(),
            Which::Indexes(indexes) => {
                if let Some(bad) = indexes.iter().find(|index| !guard.open.contains_key(index)) {
                    return Err(Refusal::at(ErrorKind::InvalidArgument, *bad));
                }
                indexes.clone()
            }
            Which::Keys(keys) => {
                let find = |(position, key): (usize, &Item)| {
                    let found = guard.open.iter().find(|(_, item)| name(item) == name(key));
                    found.map(|(index, _)| *index).ok_or(Refusal::at(ErrorKind::InvalidArgument, position))
                };
                keys.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>()?
            }
        };
        indexes.sort_unstable();
        Ok(indexes)
    }

    /// Ends items of a claim that a guard has settled.
    fn settle(&mut self, guard: u64, indexes: &[usize]) {
        let Some(held_by) = self.guards.get_mut(&guard) else { return };
        indexes.iter().for_each(|index| drop(held_by.open.remove(index)));
        held_by.kept &= !held_by.open.is_empty();
        let (id, number, grant) = (held_by.pool, held_by.claim, held_by.grant);
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let Some(claim) = pool.claim_mut(number).filter(|claim| claim.grant == grant) else { return };
        let mut names = Vec::new();
        for held in claim.held.iter_mut().filter(|held| indexes.contains(&held.index)) {
            held.open = false;
            names.push(name(&held.item));
        }
        let is_over = claim.held.iter().all(|held| !held.open);
        pool.owners.retain(|key, owner| *owner != number || !names.contains(key));
        if is_over {
            pool.end_claim(number);
        }
    }

    pub fn confirm(&mut self, id: u64, which: &Which, results: bool) -> Answer {
        // Only a confirmation of everything takes results.
        let results = results && matches!(which, Which::All);
        let now = self.now;
        let guard = self.guards[&id].clone();
        let indexes = self.meant(&guard, which)?;
        if indexes.is_empty() {
            return Ok(Vec::new());
        }
        let pool = self.pool(guard.pool)?;
        let claim = pool.claim_of(guard.claim).filter(|claim| claim.grant == guard.grant).cloned();
        let (mut lines, mut wrote) = (Vec::new(), false);
        for index in &indexes {
            let item = &guard.open[index];
            let held = claim.as_ref().and_then(|claim| claim.held.iter().find(|held| held.index == *index));
            let owned = claim.as_ref().zip(held).filter(|(claim, held)| pool.owns(claim, held));
            let outcome = match owned {
                Some((claim, held))
                    if pool.newest(item).is_none_or(|record| Some(record.id) <= held.seen) =>
                {
                    let record = pool.replace(item, &claim.from);
                    wrote = true;
                    if results && let Some(record) = pool.records.get_mut(&record) {
                        record.result = result_of(*index);
                    }
                    format!("confirmed {record}")
                }
                _ => match pool.oldest(item) {
                    Some(record) => format!("already tracked {}", record.row().line()),
                    None => "lease lost".to_owned(),
                },
            };
            lines.push(format!("{index} {outcome}"));
        }
        if wrote {
            pool.committed(now);
        }
        self.settle(id, &indexes);
        Ok(lines)
    }

    pub fn release(&mut self, id: u64, which: &Which) -> Answer {
        let guard = self.guards[&id].clone();
        let indexes = self.meant(&guard, which)?;
        if indexes.is_empty() {
            return Ok(vec!["0".to_owned()]);
        }
        let pool = self.pool(guard.pool)?;
        let claim = pool.claim_of(guard.claim).filter(|claim| claim.grant == guard.grant);
        let released = claim.map_or(0, |claim| {
            let meant = claim.held.iter().filter(|held| indexes.contains(&held.index));
            meant.filter(|held| pool.owns(claim, held)).count()
        });
        self.settle(id, &indexes);
        Ok(vec![released.to_string()])
    }

    pub fn drop_guard(&mut self, id: u64) -> Answer {
        let _ = self.release(id, &Which::All);
        self.guards.remove(&id);
        Ok(Vec::new())
    }

    /// The token gets the guard's number.
    pub fn hand_over(&mut self, id: u64) -> Vec<String> {
        let Some(guard) = self.guards.remove(&id) else { return Vec::new() };
        let Guard { pool, claim, grant, open, .. } = guard;
        if !open.is_empty() {
            self.tokens.insert(id, Token { pool, claim, grant });
        }
        vec![format!("{}", !open.is_empty())]
    }

    pub fn resume(&mut self, token: u64, guard: u64) -> Answer {
        let Token { pool: id, claim: number, grant } = self.tokens[&token].clone();
        let pool = self.pool(id)?;
        let claim = pool.claim_of(number).filter(|claim| claim.grant == grant);
        let claim = claim.ok_or(Refusal::of(ErrorKind::LeaseLost))?.clone();
        Ok(self.taken_up(id, &claim, guard))
    }

    /// Makes a guard of a stored claim, and returns what it says.
    fn taken_up(&mut self, id: u64, claim: &Claim, guard: u64) -> Vec<String> {
        let pool = &self.pools[&id];
        let mut lines = vec![format!("until {}", claim.until)];
        let (mut open, mut owned) = (BTreeMap::new(), BTreeMap::new());
        for held in &claim.held {
            let verdict = match (held.open, pool.owns(claim, held)) {
                (false, _) => "settled",
                (true, true) => "claimed",
                (true, false) => "lost",
            };
            lines.push(format!("{} {verdict}", held.index));
            if held.open {
                open.insert(held.index, held.item.clone());
            }
            if pool.owns(claim, held) {
                owned.insert(held.index, held.item.clone());
            }
        }
        let shown: Vec<String> = open_lines(&owned).collect();
        let (number, grant, lease) = (claim.number, claim.grant, claim.lease);
        self.guards.insert(guard, Guard { pool: id, claim: number, grant, lease, kept: false, open });
        lines.into_iter().chain(shown).collect()
    }

    pub fn resume_owner(&mut self, id: u64, owner: &str, first_guard: u64) -> Answer {
        let (now, moment) = (self.now, self.moment());
        let pool = self.pool(id)?;
        pool.sweep();
        let mut taken = Vec::new();
        for claim in pool.claims.iter_mut().filter(|claim| claim.owner.as_deref() == Some(owner)) {
            claim.grant += 1;
            (claim.since, claim.until, claim.end) = (now, now + claim.lease, moment + claim.lease);
            taken.push(claim.clone());
        }
        let numbered = taken.iter().zip(first_guard..);
        Ok(numbered.flat_map(|(claim, guard)| self.taken_up(id, claim, guard)).collect())
    }

    /// Restarts the lease, with a new length or the same.
    pub fn extend(&mut self, id: u64, lease: Option<i64>) -> Answer {
        let (now, moment) = (self.now, self.moment());
        let guard = self.guards[&id].clone();
        let keeps = lease.is_none() || guard.kept;
        let lease = lease.unwrap_or(guard.lease);
        check_lease(lease)?;
        if keeps && lease < 1_000_000 {
            return Err(Refusal::of(ErrorKind::InvalidArgument));
        }
        if guard.open.is_empty() {
            return Err(Refusal::of(ErrorKind::LeaseLost));
        }
        let pool = self.pool(guard.pool)?;
        let found = pool.claim_of(guard.claim).filter(|claim| {
            claim.grant == guard.grant && claim.held.iter().any(|held| pool.owns(claim, held))
        });
        let number = found.ok_or(Refusal::of(ErrorKind::LeaseLost))?.number;
        if let Some(claim) = pool.claim_mut(number) {
            (claim.until, claim.end, claim.lease) = (now + lease, moment + lease, lease);
        }
        if let Some(guard) = self.guards.get_mut(&id) {
            (guard.lease, guard.kept) = (lease, keeps);
        }
        Ok(vec![format!("until {}", now + lease)])
    }

    pub fn release_claims(&mut self, id: u64, filter: &ClaimsFilter) -> Answer {
        let now = self.now;
        let pool = self.pool(id)?;
        let ClaimsFilter { owner, flow, run, older_than, lapsed, all } = filter;
        let has_condition =
            *all || *lapsed || owner.is_some() || flow.is_some() || run.is_some() || older_than.is_some();
        let takes = |claim: &Claim| {
            owner.as_ref().is_none_or(|owner| claim.owner.as_ref() == Some(owner))
                && flow.as_ref().is_none_or(|flow| claim.from.flow.as_ref() == Some(flow))
                && run.as_ref().is_none_or(|run| claim.from.run.as_ref() == Some(run))
                && older_than.is_none_or(|age| now - claim.since > age)
                && (!lapsed || pool.moment >= claim.end)
        };
        let listed = pool.claims.iter().filter(|claim| has_condition && pool.is_listed(claim));
        let numbers: Vec<u64> = listed.filter(|claim| takes(claim)).map(|claim| claim.number).collect();
        numbers.iter().for_each(|number| pool.end_claim(*number));
        Ok(vec![numbers.len().to_string()])
    }
}

fn open_lines(open: &BTreeMap<usize, Item>) -> impl Iterator<Item = String> {
    open.iter().map(|(index, item)| format!("holds {index} {item:?}"))
}
