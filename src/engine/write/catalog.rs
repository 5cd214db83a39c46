//! Pools: creating, finding, changing and deleting them.

use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};

use crate::backend::counters::Work;
use crate::engine::Engine;
use crate::engine::format::codec;
use crate::engine::format::schema::{self, TableNumber};
use crate::engine::pool::state::PoolState;
use crate::engine::read::views::no_pool;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::engine::storage::space::Need;
use crate::engine::write::claim_rows;
use crate::engine::write::commit::{Changes, PoolChange};
use crate::engine::write::reclaim::{drop_segment, drop_table_rows};
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::model::{DataPool, NewPool, Policy, PoolUpdate};
use crate::time::Timestamp;

impl Engine {
    /// Returns a pool's row.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub(crate) fn pool_row(&self, id: PoolId) -> Result<DataPool> {
        contained("reading a pool", || {
            let snapshot = self.snapshot()?;
            let Some(pools) = snapshot.table(schema::POOLS)? else { return Err(no_pool(id)) };
            let row = pools.get(id).storage()?.ok_or_else(|| no_pool(id))?;
            codec::decode_pool(id, row.value())
        })
    }

    /// Returns the id of the pool with that name, if there is one.
    pub(crate) fn pool_id(&self, name: &str) -> Result<Option<PoolId>> {
        contained("finding a pool", || {
            let snapshot = self.snapshot()?;
            let Some(names) = snapshot.table(schema::POOL_NAMES)? else { return Ok(None) };
            Ok(names.get(name.as_bytes()).storage()?.map(|id| id.value()))
        })
    }

    /// Returns every pool's row, by ascending id.
    pub(crate) fn pool_rows(&self) -> Result<Vec<DataPool>> {
        contained("reading the pools", || {
            let snapshot = self.snapshot()?;
            let Some(pools) = snapshot.table(schema::POOLS)? else { return Ok(Vec::new()) };
            let mut rows = Vec::new();
            for row in pools.range::<PoolId>(..).storage()? {
                let (id, row) = row.storage()?;
                rows.push(codec::decode_pool(id.value(), row.value())?);
            }
            Ok(rows)
        })
    }

    /// Creates a pool.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the name is taken.
    pub(crate) fn create_pool(&self, new: &NewPool) -> Result<DataPool> {
        self.check_may_write()?;
        self.exclusive(|_| {
            self.check_name_is_free(&new.name)?;
            let txn = self.begin()?;
            let now = self.clock.now();
            let pool = DataPool {
                id: take_pool_id(&txn)?,
                name: new.name.clone(),
                description: new.description.clone(),
                created_at: now,
                updated_at: now,
                retention: new.retention,
                capacity: new.capacity,
            };
            write_pool(&txn, &pool)?;
            self.commit_rows(txn, Need::Adding)?;
            Ok(pool)
        })
    }

    /// Changes a pool.
    ///
    /// # Errors
    ///
    /// `NotFound`; `AlreadyExists` if the new name is another pool's.
    pub(crate) fn update_pool(&self, id: PoolId, update: &PoolUpdate) -> Result<DataPool> {
        self.check_may_write()?;
        self.exclusive(|writer| {
            let mut pool = self.pool_row(id)?;
            let (old_name, old_policy) = (pool.name.clone(), pool.policy());
            if let Some(name) = update.name.as_ref().filter(|name| **name != old_name) {
                self.check_name_is_free(name)?;
                pool.name.clone_from(name);
            }
            update.description.apply_to(&mut pool.description);
            update.retention.apply_to(&mut pool.retention);
            update.capacity.apply_to(&mut pool.capacity);
            let now = self.clock.now();
            pool.updated_at = now.max(pool.updated_at);
            let policy = pool.policy();
            // With a retention, the commit also stores what has expired, like any other commit.
            let changes_state = policy != old_policy || policy.retention.is_some();
            let state = if changes_state { Some(self.under_policy(id, policy, now)?) } else { None };
            let txn = self.begin()?;
            txn.open_table(schema::POOL_NAMES).storage()?.remove(old_name.as_bytes()).storage()?;
            write_pool(&txn, &pool)?;
            let changed = state.into_iter().map(PoolChange::from).collect();
            self.commit(writer, txn, Changes::new(Need::Adding, changed))?;
            Ok(pool)
        })
    }

    /// Returns the pool's state under a new policy. Records that had expired under the old policy stay
    /// expired. Records that the new policy does not keep expire now.
    fn under_policy(&self, id: PoolId, policy: Policy, now: Timestamp) -> Result<PoolState> {
        let before = self.view_at(id, now)?;
        let mut state = PoolState::clone(&before.state);
        state.set_policy(policy);
        if let Some(watermark) = before.of_state(Arc::new(state.clone())).watermark_at(now)? {
            state.expire_to(watermark);
        }
        Ok(state)
    }

    /// Deletes a pool with everything in it, in one commit.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub(crate) fn delete_pool(&self, id: PoolId) -> Result<()> {
        self.check_may_write()?;
        self.exclusive(|writer| {
            let view = self.view(id)?;
            let pool = self.pool_row(id)?;
            let txn = self.begin()?;
            for number in view.state.segment_numbers() {
                drop_segment(&txn, id, number)?;
            }
            drop_table_rows(&txn, id, 0..=TableNumber::MAX, None)?;
            txn.open_table(schema::POOLS).storage()?.remove(id).storage()?;
            txn.open_table(schema::POOL_NAMES).storage()?.remove(pool.name.as_bytes()).storage()?;
            txn.open_table(schema::POOL_HEADS).storage()?.remove(id).storage()?;
            claim_rows::remove_all(&txn, id, &view.state.claims)?;
            let segments_dropped = view.state.segments.len() as u64;
            drop(view);
            let work = Work { segments_dropped, ..Work::default() };
            let deleted = vec![PoolChange::Deleted(id)];
            self.commit(writer, txn, Changes { work, ..Changes::new(Need::Reserve, deleted) })
        })
    }

    fn check_name_is_free(&self, name: &str) -> Result<()> {
        match self.pool_id(name)? {
            None => Ok(()),
            Some(id) => Err(Error::already_exists(format!(
                "the name {name:?} is taken by data pool {id}; names are unique"
            ))
            .with_parameter("name")),
        }
    }
}

fn take_pool_id(txn: &WriteTransaction) -> Result<PoolId> {
    let mut meta = txn.open_table(schema::META).storage()?;
    let id = next_pool_id(&meta)?
        .ok_or_else(|| Error::corrupt("the store's next pool id is missing or damaged"))?;
    if txn.open_table(schema::POOLS).storage()?.get(id).storage()?.is_some() {
        return Err(Error::corrupt(format!("the store's next pool id is {id}, and there is such a pool")));
    }
    meta.insert(schema::META_NEXT_POOL, (id.get() + 1).to_le_bytes().as_slice()).storage()?;
    Ok(id)
}

/// Returns the id of the next pool, if it can be read.
pub(crate) fn next_pool_id(
    meta: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Option<PoolId>> {
    let bytes = meta.get(schema::META_NEXT_POOL).storage()?.map(|bytes| bytes.value().to_vec());
    Ok(bytes.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?).into())))
}

/// Makes sure that the next pool gets an id after `last`.
pub(crate) fn raise_next_pool_id(txn: &WriteTransaction, last: PoolId) -> Result<()> {
    let mut meta = txn.open_table(schema::META).storage()?;
    if next_pool_id(&meta)?.is_none_or(|next| next <= last) {
        meta.insert(schema::META_NEXT_POOL, (last.get() + 1).to_le_bytes().as_slice()).storage()?;
    }
    Ok(())
}

fn write_pool(txn: &WriteTransaction, pool: &DataPool) -> Result<()> {
    let row = codec::encode_pool(pool)?;
    txn.open_table(schema::POOLS).storage()?.insert(pool.id, row.as_slice()).storage()?;
    txn.open_table(schema::POOL_NAMES).storage()?.insert(pool.name.as_bytes(), pool.id).storage()?;
    Ok(())
}
