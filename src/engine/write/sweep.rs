//! Sweeping: removes claims whose lease ended more than an hour ago from the file, a share with each commit
//! of their pool.
//!
//! Always holds: a claim that can be swept does not exist for callers, so nothing that callers see changes.

use redb::WriteTransaction;

use crate::backend::batch::Batch;
use crate::engine::format::claim_items::{blocks_of, decode_block};
use crate::engine::format::schema;
use crate::engine::storage::failure::StorageResult;
use crate::engine::write::claim_rows::remove_rows;
use crate::engine::write::draft::PoolDraft;
use crate::error::Result;

/// The number of items that one commit sweeps.
const SWEEP_ITEMS: usize = 4_096;

/// The progress of a sweep in one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swept {
    Nothing,
    PartOfClaim,
    Claim,
}

/// Performs a commit's share of sweeping: removes some blocks of a claim that can be swept, and the claim
/// itself with its last block.
pub(crate) fn sweep(txn: &WriteTransaction, draft: &mut PoolDraft) -> Result<Swept> {
    let swept = draft.state.next_claim_to_sweep(draft.now.moment);
    let Some(id) = swept else { return Ok(Swept::Nothing) };
    let pool = draft.state.id;
    let mut batch = Batch::default();
    let mut is_rest = true;
    {
        let mut items = txn.open_table(schema::CLAIM_ITEMS).storage()?;
        let mut blocks = items.extract_from_if(blocks_of(pool, id), |_, _| true).storage()?;
        while let Some(block) = blocks.next().transpose().storage()? {
            decode_block(block.1.value(), |item| {
                batch.push(&draft.base.hash_key, item.entity_type, item.value, None);
            })?;
            if batch.len() >= SWEEP_ITEMS {
                is_rest = false;
                break;
            }
        }
    }
    let mut owners = txn.open_table(schema::CLAIMED).storage()?;
    for item in batch.items() {
        let key = (pool, item.fingerprint);
        let is_own =
            redb::ReadableTable::get(&owners, key).storage()?.is_some_and(|owner| owner.value() == id);
        if is_own {
            owners.remove(key).storage()?;
        }
    }
    drop(owners);
    if !is_rest {
        return Ok(Swept::PartOfClaim);
    }
    remove_rows(txn, pool, id)?;
    draft.state.remove_claim(id);
    Ok(Swept::Claim)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits;
    use crate::model::Origin;

    /// Sweeping a lapsed claim is part of the writes of any caller, but an error in that claim must not fail
    /// them.
    #[test]
    fn a_damaged_claim_of_one_pool_fails_no_write_to_another() {
        use crate::testing::{self, Sizes};
        use crate::{ErrorKind, Key, ManualClock, Mode, StoreOptions};
        fn key<'a>(value: &'a &str) -> Key<'a> {
            Key::new(37, *value)
        }
        let clock = ManualClock::starting_at("2013-01-01".parse().unwrap());
        let options = StoreOptions::new().clock(clock.clone());
        let (store, engine) = testing::with_engine(&options, Sizes::SMALL.split());
        let (damaged, other) =
            (store.get_or_create_pool("damaged").unwrap(), store.get_or_create_pool("other").unwrap());
        let lease = Duration::from_mins(1);
        assert!(damaged.claim(&["a"], key, &Origin::none(), lease).unwrap().into_token().is_some());
        let txn = engine.session.read().as_ref().unwrap().database.begin_write().unwrap();
        let block = [255; 7];
        txn.open_table(schema::CLAIM_ITEMS).unwrap().insert((damaged.id(), 1, 0), block.as_slice()).unwrap();
        txn.commit().unwrap();
        clock.advance(lease + limits::CLAIM_KEPT_AFTER_LEASE);
        for value in ["b", "c", "d"] {
            let values = [value];
            let verdicts = other.dedupe(Mode::Track, &values, key, &Origin::none()).unwrap();
            assert_eq!(verdicts.new_count(), 1);
        }
        let error = damaged.dedupe(Mode::Track, &["b"], key, &Origin::none()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        store.delete_pool(damaged.id()).unwrap();
    }
}
