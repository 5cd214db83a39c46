//! Claims: their items can be read, and only they own values.

use std::collections::HashSet;

use super::Verification;
use crate::engine::claims::ClaimId;
use crate::engine::failure::StorageResult;
use crate::engine::schema;
use crate::engine::view::View;
use crate::error::{ErrorKind, Result};

impl Verification<'_, '_, '_> {
    /// Checks a pool's claims.
    pub(super) fn check_claims(&mut self, view: &View) -> Result<()> {
        let pool = view.state.id;
        let items = view.items_by_claim()?;
        for (id, error) in items.iter().filter_map(|(id, items)| Some((id, items.as_ref().err()?))) {
            if error.kind() != ErrorKind::Corrupt {
                return Err(error.clone());
            }
            self.findings.add(Some(pool), "claim items", format!("{pool}, {id}"), error.to_string());
        }
        for (fingerprint, owner) in view.owners()? {
            let reason = match items.get(&owner) {
                Some(Ok(items)) if !items.contains(&fingerprint) => {
                    format!("claim {owner} owns it, and has no such item")
                }
                None if !view.state.claims.contains(owner) => {
                    format!("claim {owner} owns it, and there is no such claim")
                }
                _ => continue,
            };
            self.findings.add(Some(pool), "claimed", format!("{pool}, {fingerprint:032x}"), reason);
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
