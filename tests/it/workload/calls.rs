//! The calls that each operation makes.

use datapool_store::{
    ClaimOptions, ErrorKind, ExportOptions, Flow, ImportOptions, Mode, NewPool, Pool, PoolUpdate, Result,
    Timestamp, Verdict, Verdicts,
};

use super::driver::Driver;
use super::filter::Filter;
use super::{Answer, Op, Told, is_passed, readers};
use crate::support::items::{Asked, Item, Row, csv_with_versions};

impl Driver {
    pub(super) fn call(&mut self, op: &Op) -> Result<Answer> {
        if matches!(op, Op::Reopen | Op::Restart { .. }) {
            return self.open_again(op);
        }
        let store = self.store().clone();
        let done = |result: Result<()>| result.map(|()| Answer::Done);
        match op {
            Op::Create { name, retention, capacity } => {
                let new = set(NewPool::new(name.clone()), *retention, NewPool::retention);
                let new = set(new, *capacity, NewPool::capacity);
                store.create_pool(new).map(|pool| Answer::Count(pool.id().get()))
            }
            Op::Update { pool, name, description, retention, capacity } => {
                let mut update = PoolUpdate::new();
                update = set(update, name.clone(), PoolUpdate::name);
                update = set_or_clear(
                    update,
                    description.as_ref(),
                    PoolUpdate::description,
                    PoolUpdate::clear_description,
                );
                update = set_or_clear(
                    update,
                    retention.as_ref(),
                    PoolUpdate::retention,
                    PoolUpdate::clear_retention,
                );
                update =
                    set_or_clear(update, capacity.as_ref(), PoolUpdate::capacity, PoolUpdate::clear_capacity);
                done(store.update_pool(*pool, update).map(drop))
            }
            Op::Delete { pool } => {
                self.end_scans();
                let handle = store.pool(*pool)?;
                store.delete_pool(*pool)?;
                self.deleted.extend(self.looks().then_some(handle));
                Ok(Answer::Done)
            }
            Op::PutFlow { id, name } => done(store.put_flow(Flow::new(id.as_str(), name.as_str()))),
            Op::DeleteFlow { id } => store.delete_flow(id.as_str()).map(|was| Answer::Count(u64::from(was))),
            Op::Prune { pool: None } => done(store.prune().map(drop)),
            Op::Flush => done(store.flush()),
            Op::DeleteInAll { filter } => store.delete_where(&filter.build_to_delete()).map(Answer::Count),
            Op::Rebuild | Op::Compact | Op::Vacuum | Op::Verify | Op::Backup => self.work_on_the_whole(op),
            Op::Pass { time } => {
                self.clock.advance(*time);
                self.passed += i64::try_from(time.as_micros()).unwrap();
                Ok(Answer::Done)
            }
            Op::Turn { micros } => {
                self.clock.set(Timestamp::from_micros(self.clock.now().as_micros() + micros));
                Ok(Answer::Done)
            }
            Op::Settle { pool, claim, how } => self.settle((*pool, *claim), how),
            Op::Claim { pool, id, items, origin, lease, owner } => {
                let options = set(ClaimOptions::new().lease(*lease), owner.clone(), ClaimOptions::owner);
                let claim = store.pool(*pool)?.claim_with(items, Asked::key, origin, &options);
                self.claimed((*pool, *id), claim)
            }
            Op::TakeUp { pool, owner } => self.take_up(*pool, owner),
            Op::ReleaseClaims { pool, filter } => self.release_claims(*pool, filter),
            Op::Copy { pool, to, filter } => {
                let (mut file, options) = (vec![], ExportOptions::new().filter(filter.build()));
                store.pool(*pool)?.export_csv(&mut file, &options)?;
                let report = store.pool(*to)?.import_csv(file.as_slice(), &ImportOptions::new())?;
                assert_eq!(report.rows, report.added);
                Ok(Answer::Count(report.added))
            }
            Op::Read { pool, filter, reading } => {
                readers::check(&store.pool(*pool)?, &self.model().pools[pool], filter, reading)
            }
            Op::OpenScan { .. } | Op::EndScan { .. } | Op::TakeSnapshot { .. } | Op::DropSnapshot { .. } => {
                self.read_on(op)
            }
            _ => call_on(&store.pool(op.pool().unwrap())?, op),
        }
    }

    fn work_on_the_whole(&mut self, op: &Op) -> Result<Answer> {
        let store = self.store().clone();
        if matches!(op, Op::Compact | Op::Vacuum | Op::Verify) {
            self.end_scans();
        }
        match op {
            Op::Rebuild => {
                let report = store.rebuild_indexes()?;
                assert_eq!((report.left, report.pools), (vec![], self.model().pools.len() as u64));
                Ok(Answer::Done)
            }
            Op::Compact => {
                let compacted = store.compact();
                if !self.is_busy(&compacted) {
                    let report = compacted?;
                    // A failing disk may refuse to be truncated, and preparing for instant recovery takes
                    // space.
                    if let Some((_, path)) = &self.file {
                        assert!(report.bytes_after <= report.bytes_before);
                        assert_eq!(std::fs::metadata(path).unwrap().len(), report.bytes_after);
                    }
                }
                Ok(Answer::Done)
            }
            Op::Vacuum => self.vacuum(),
            Op::Verify => {
                let verified = store.verify();
                if !self.is_busy(&verified) {
                    let report = verified?;
                    assert_eq!((report.findings, report.ok), (vec![], true));
                    let pools = &self.model().pools;
                    assert_eq!(report.pools, pools.len() as u64);
                    assert!(report.records >= pools.values().map(|pool| pool.live.len() as u64).sum());
                }
                Ok(Answer::Done)
            }
            Op::Backup => self.back_up(),
            other => unreachable!("{other:?} is not about the whole store"),
        }
    }

    fn vacuum(&mut self) -> Result<Answer> {
        self.hand_over();
        let store = self.store().clone();
        let mut vacuumed = store.vacuum();
        if self.is_busy(&vacuumed) {
            self.snapshots.drain(..).for_each(|snapshot| snapshot.check_thoroughly(&Filter::default()));
            vacuumed = store.vacuum();
        }
        let report = vacuumed?;
        let live: usize = self.model().pools.values().map(|pool| pool.live.len()).sum();
        // Records that have expired meanwhile are gone.
        assert!(report.records <= live as u64);
        if let Some((_, path)) = &self.file {
            assert_eq!(std::fs::metadata(path).unwrap().len(), report.bytes_after);
        }
        Ok(Answer::Done)
    }

    fn open_again(&mut self, op: &Op) -> Result<Answer> {
        // Every handle keeps the file open.
        self.end_scans();
        self.deleted.clear();
        self.hand_over();
        if let Op::Restart { sizes } = op {
            self.snapshots.clear();
            self.sizes = *sizes;
            self.store = None;
            self.store = Some(self.open()?);
        } else {
            self.store().clone().reopen()?;
            self.snapshots.drain(..).for_each(|snapshot| snapshot.check_ended());
        }
        Ok(Answer::Done)
    }
}

fn set<T, V>(value: T, field: Option<V>, set: impl FnOnce(T, V) -> T) -> T {
    match field {
        Some(field) => set(value, field),
        None => value,
    }
}

fn set_or_clear<T, V: Clone>(
    value: T,
    field: Option<&Option<V>>,
    set: impl FnOnce(T, V) -> T,
    clear: impl FnOnce(T) -> T,
) -> T {
    match field {
        Some(Some(field)) => set(value, field.clone()),
        Some(None) => clear(value),
        None => value,
    }
}

fn call_on(pool: &Pool, op: &Op) -> Result<Answer> {
    match op {
        Op::Dedupe { mode, firsts, items, origin, .. } => {
            let verdicts = match firsts {
                true => pool.dedupe_with_first(*mode, items, Asked::key, origin),
                false => pool.dedupe(*mode, items, Asked::key, origin),
            };
            verdicts.map(|verdicts| told(*mode, items, &verdicts))
        }
        Op::DeleteRecords { ids, .. } => pool.delete_records(ids.iter().copied()).map(Answer::Count),
        Op::DeleteKeys { items, .. } => {
            let keys: Vec<_> = items.iter().map(Item::key).collect();
            pool.delete_keys(&keys).map(Answer::Count)
        }
        Op::DeleteWhere { filter, .. } => pool.delete_where(&filter.build_to_delete()).map(Answer::Count),
        Op::Clear { .. } => pool.clear().map(Answer::Count),
        Op::Import { items, policy, every, .. } => {
            let mut options = ImportOptions::new().on_duplicate(*policy).version_column("version");
            options = set(options, *every, ImportOptions::commit_every);
            match pool.import_csv(csv_with_versions(items).as_bytes(), &options) {
                Ok(report) => {
                    let counts = (report.rows, report.skipped, report.bad_rows);
                    assert_eq!(counts, (items.len() as u64, report.rows - report.added, 0));
                    Ok(Answer::Count(report.added))
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    Ok(Answer::Stopped(error.committed_rows()))
                }
                Err(error) => Err(error),
            }
        }
        Op::Prune { .. } => pool.prune().map(|_| Answer::Done),
        other => unreachable!("{other:?} is not about one pool"),
    }
}

/// Returns what a deduplication says about each item, in all forms of the answer.
fn told(mode: Mode, items: &[Asked], verdicts: &Verdicts) -> Answer {
    assert_eq!(verdicts.len(), items.len());
    let told = |(index, verdict): (usize, &Verdict)| {
        assert_eq!(verdicts.passes(index), is_passed(*verdict) || mode == Mode::Track);
        Told { verdict: *verdict, first: verdicts.first(index).map(Row::from), by: None }
    };
    let told = verdicts.as_slice().iter().enumerate().map(told).collect();
    let of = |wanted: fn(Verdict) -> bool| {
        let pairs = items.iter().zip(verdicts.as_slice()).filter(|(_, verdict)| wanted(**verdict));
        pairs.map(|(item, _)| item.clone()).collect::<Vec<_>>()
    };
    let split = verdicts.partition(items.to_vec());
    let duplicates = of(|verdict| verdict == Verdict::Duplicate);
    assert_eq!(
        (verdicts.new_count() + verdicts.changed_count(), &split.fresh),
        (split.fresh.len(), &of(is_passed))
    );
    assert_eq!((split.duplicates, split.unmatched), (duplicates, vec![]));
    assert_eq!(split.in_flight, of(|verdict| verdict == Verdict::InFlight));
    Answer::Verdicts(told)
}
