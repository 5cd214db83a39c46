//! Copies the claims of a pool: those that exist, with the values of their open items.
//!
//! Always holds: an item that is left out keeps its place, with an empty value, which no key has. So indexes
//! and counts do not change.

use redb::WriteTransaction;

use crate::backend::claims::{Standing, StoredClaim};
use crate::backend::fingerprint::Fingerprint;
use crate::engine::format::claim_items::{ClaimedItem, encode_blocks};
use crate::engine::format::codec;
use crate::engine::format::schema::{self, FENCE_ROW};
use crate::engine::read::view::View;
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use crate::ids::EntityTypeId;
use crate::time::Moment;

/// The placeholder of an item that is left out. It gets the item's index.
const LEFT_OUT: ClaimedItem<'static> =
    ClaimedItem { index: 0, entity_type: EntityTypeId::new(0), value: "", version: None, seen: 0 };

/// Copies the claims of a pool that exist at this moment.
pub(super) fn copy(txn: &WriteTransaction, view: &View, moment: Moment) -> Result<()> {
    let (pool, claims) = (view.state.id, &view.state.claims);
    if claims.is_empty() && claims.fence() == 0 {
        return Ok(());
    }
    let mut owners = Vec::new();
    {
        let mut rows = txn.open_table(schema::CLAIMS).storage()?;
        rows.insert((pool, FENCE_ROW), codec::encode_fence(claims.fence())?.as_slice()).storage()?;
        for (id, claim) in claims.iter().filter(|(_, claim)| !claim.is_sweepable(moment)) {
            rows.insert((pool, id), codec::encode_claim(&claim.row())?.as_slice()).storage()?;
        }
    }
    for (id, claim) in claims.iter().filter(|(_, claim)| !claim.is_sweepable(moment)) {
        let StoredClaim { batch, indexes, seen, standings, .. } = view.items_of_claim(id, claim)?;
        let mut items = Vec::with_capacity(indexes.len());
        for (position, ((index, seen), standing)) in indexes.into_iter().zip(seen).zip(standings).enumerate()
        {
            let Some(item) = batch.items().get(position) else { continue };
            let is_kept = match standing {
                Standing::Held => {
                    owners.push((item.fingerprint, id));
                    true
                }
                Standing::Settled => false,
                Standing::Lost => is_of_another(view, item.fingerprint, moment)?,
            };
            items.push(if is_kept {
                // Nobody can confirm a lost item, so its version is not needed.
                let is_held = standing == Standing::Held;
                let version = batch.version(position).filter(|_| is_held);
                let (value, seen) = (batch.value(position), if version.is_some() { seen } else { 0 });
                ClaimedItem { index, entity_type: item.entity_type, value, version, seen }
            } else {
                ClaimedItem { index, ..LEFT_OUT }
            });
        }
        let mut blocks = txn.open_table(schema::CLAIM_ITEMS).storage()?;
        for (number, block) in (0_u32..).zip(encode_blocks(items)) {
            blocks.insert((pool, id, number), block.as_slice()).storage()?;
        }
    }
    owners.sort_unstable();
    let mut table = txn.open_table(schema::CLAIMED).storage()?;
    for (fingerprint, id) in owners {
        table.insert((pool, fingerprint), id).storage()?;
    }
    Ok(())
}

/// Returns true if a live record has the value, or an existing claim owns it. Then the value is in the copy
/// anyway.
fn is_of_another(view: &View, fingerprint: Fingerprint, moment: Moment) -> Result<bool> {
    if view.find_any(fingerprint)?.is_some() {
        return Ok(true);
    }
    Ok(view.owner(fingerprint)?.is_some_and(|owner| view.state.claims.get(owner, moment).is_some()))
}
