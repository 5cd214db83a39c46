//! Claims on disk: writes the changes of a draft to them.
//!
//! Always holds: the owner of a value is the claim in the value's owner row, if that claim exists. Every
//! owner row names a claim that has a row, and a value whose live records that claim has all seen. A claim
//! never gets back a value that it lost.

use redb::WriteTransaction;

use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::Fingerprint;
use crate::engine::format::claim_items::{ClaimedItem, blocks_of, encode_blocks};
use crate::engine::format::codec;
use crate::engine::format::schema::{self, FENCE_ROW};
use crate::engine::pool::claims::Claims;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::draft::PoolDraft;
use crate::error::Result;
use crate::ids::{PoolId, RecordNumber};

/// Writes the changes of a draft to its pool's claims.
pub(crate) fn write(txn: &WriteTransaction, draft: &PoolDraft) -> Result<()> {
    let (pool, changes) = (draft.state.id, &draft.claims);
    if !changes.owners.is_empty() {
        let mut owners: Vec<_> = changes.owners.iter().collect();
        owners.sort_unstable();
        let mut table = txn.open_table(schema::CLAIMED).storage()?;
        if draft.state.claims.is_empty() {
            // The last claims were settled, so one pass removes all rows of the pool.
            table.retain_in((pool, 0)..=(pool, Fingerprint::MAX), |_, _| false).storage()?;
            owners.clear();
        }
        for (fingerprint, owner) in owners {
            match owner {
                Some(owner) => table.insert((pool, *fingerprint), *owner).storage()?,
                None => table.remove((pool, *fingerprint)).storage()?,
            };
        }
    }
    for id in &changes.gone {
        remove_rows(txn, pool, *id)?;
    }
    let kept = |id: &ClaimId| draft.state.claims.stored(*id);
    for (id, batch, items) in changes.made.iter().filter(|(id, ..)| kept(id).is_some()) {
        let mut table = txn.open_table(schema::CLAIM_ITEMS).storage()?;
        let item = |(place, seen): &(usize, RecordNumber)| {
            let entity_type = batch.items().get(*place)?.entity_type;
            // The number is below BATCH_MAX_ITEMS.
            let index = u32::try_from(*place).ok()?;
            let (value, version) = (batch.value(*place), batch.version(*place));
            Some(ClaimedItem { index, entity_type, value, version, seen: *seen })
        };
        let of_batch = items.iter().filter_map(item);
        for (number, block) in (0_u32..).zip(encode_blocks(of_batch)) {
            table.insert((pool, *id, number), block.as_slice()).storage()?;
        }
    }
    if changes.granted {
        let row = codec::encode_fence(draft.state.claims.fence())?;
        txn.open_table(schema::CLAIMS).storage()?.insert((pool, FENCE_ROW), row.as_slice()).storage()?;
    }
    for id in &changes.changed {
        if let Some(claim) = kept(id) {
            let row = codec::encode_claim(&claim.row())?;
            txn.open_table(schema::CLAIMS).storage()?.insert((pool, *id), row.as_slice()).storage()?;
        }
    }
    Ok(())
}

pub(crate) fn remove_rows(txn: &WriteTransaction, pool: PoolId, id: ClaimId) -> Result<()> {
    txn.open_table(schema::CLAIMS).storage()?.remove((pool, id)).storage()?;
    let mut items = txn.open_table(schema::CLAIM_ITEMS).storage()?;
    items.retain_in(blocks_of(pool, id), |_, _| false).storage()
}

/// Removes all of a pool's claims.
pub(crate) fn remove_all(txn: &WriteTransaction, pool: PoolId, claims: &Claims) -> Result<()> {
    if claims.is_empty() && claims.fence() == 0 {
        return Ok(());
    }
    remove_rows_of_pool(txn, pool)
}

/// Removes all rows of a pool's claims.
pub(crate) fn remove_rows_of_pool(txn: &WriteTransaction, pool: PoolId) -> Result<()> {
    let mut claims = txn.open_table(schema::CLAIMS).storage()?;
    claims.retain_in((pool, 0)..=(pool, ClaimId::MAX), |_, _| false).storage()?;
    drop(claims);
    let mut items = txn.open_table(schema::CLAIM_ITEMS).storage()?;
    items.retain_in((pool, 0, 0)..=(pool, ClaimId::MAX, u32::MAX), |_, _| false).storage()?;
    drop(items);
    let mut owners = txn.open_table(schema::CLAIMED).storage()?;
    owners.retain_in((pool, 0)..=(pool, Fingerprint::MAX), |_, _| false).storage()
}

/// Removes the owners of some values.
pub(crate) fn void(txn: &WriteTransaction, pool: PoolId, fingerprints: &[Fingerprint]) -> Result<()> {
    if fingerprints.is_empty() {
        return Ok(());
    }
    let mut owners = txn.open_table(schema::CLAIMED).storage()?;
    for fingerprint in fingerprints {
        owners.remove((pool, *fingerprint)).storage()?;
    }
    Ok(())
}
