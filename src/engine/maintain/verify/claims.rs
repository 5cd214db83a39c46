//! Checks claims: their items can be read; each owner of a value is a claim with such an item; and no owned
//! value has a record newer than the one that its claim saw.

use std::collections::HashSet;

use super::Verification;
use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::Fingerprint;
use crate::engine::format::schema;
use crate::engine::pool::claims::Owners;
use crate::engine::read::claims::ItemsByClaim;
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::error::{ErrorKind, Result};
use crate::ids::PoolId;

impl Verification<'_, '_, '_> {
    /// Returns every owner row of a pool. If they cannot be read, adds a finding and returns none.
    pub(super) fn read_owners(&mut self, view: &View) -> Result<Owners> {
        match view.owners() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let pool = view.state.id;
                self.findings.add(Some(pool), "claimed", pool.to_string(), error.to_string());
                Ok(Owners::default())
            }
            owners => owners,
        }
    }

    /// Adds a finding about an owner row.
    pub(super) fn add_owner(&mut self, pool: PoolId, fingerprint: Fingerprint, reason: String) {
        self.findings.add(Some(pool), "claimed", format!("{pool}, {fingerprint:032x}"), reason);
    }

    /// Checks a pool's claims, and that each claim that owns a value has it as an item.
    pub(super) fn check_claims(&mut self, view: &View, owners: &Owners, items: &ItemsByClaim) -> Result<()> {
        let pool = view.state.id;
        for (id, error) in items.iter().filter_map(|(id, items)| Some((id, items.as_ref().err()?))) {
            if error.kind() != ErrorKind::Corrupt {
                return Err(error.clone());
            }
            self.findings.add(Some(pool), "claim items", format!("{pool}, {id}"), error.to_string());
        }
        for (fingerprint, owner) in owners {
            let reason = match items.get(owner) {
                Some(Ok(items)) if !items.contains_key(fingerprint) => {
                    format!("claim {owner} owns it, and has no such item")
                }
                None if !view.state.claims.contains(*owner) => {
                    format!("claim {owner} owns it, and there is no such claim")
                }
                _ => continue,
            };
            self.add_owner(pool, *fingerprint, reason);
        }
        let Some(table) = self.snapshot.table(schema::CLAIM_ITEMS)? else { return Ok(()) };
        let mut lost = HashSet::new();
        for row in table.range((pool, 0, 0)..=(pool, ClaimId::MAX, u32::MAX)).storage()? {
            let id = row.storage()?.0.value().1;
            if !view.state.claims.contains(id) && lost.insert(id) {
                self.findings.add(
                    Some(pool),
                    "claim items",
                    format!("{pool}, {id}"),
                    "there is no such claim",
                );
            }
        }
        Ok(())
    }
}
