//! Commits and their publication.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use datapool_store::testing::{self, Disk, Sizes};
use datapool_store::{ErrorKind, Pool, RecordFilter};
use datapool_store_interleavings::{contains, explore, key, options, store, together, track};
use shuttle::thread;

#[test]
fn of_callers_with_the_same_new_value_exactly_one_gets_it_as_new() {
    explore("commits: new once", || {
        let (_store, pool, _) = store();
        let told = together(3, &Arc::new(pool.clone()), |thread, pool: &Pool| {
            [track(pool, &[thread, 10, 11]).unwrap(), track(pool, &[11, thread, 12]).unwrap()].concat()
        });
        let new: usize = told.iter().flatten().filter(|new| **new).count();
        assert_eq!(new, 6, "{told:?}");
        assert_eq!(pool.count(&RecordFilter::all()).unwrap(), 6);
    });
}

/// Checks pairs that are tracked one after the other until the last one is there.
fn watch(pool: &Pool, pairs: u64, may_be_closed: bool) {
    let mut seen = 0;
    while seen < pairs {
        let values: Vec<u64> = (0..2 * pairs).collect();
        let found = match contains(pool, &values) {
            Err(error) if may_be_closed && error.kind() == ErrorKind::Closed => {
                thread::yield_now();
                continue;
            }
            found => found.unwrap(),
        };
        for pair in found.chunks(2) {
            assert_eq!(pair[0], pair[1], "half a commit: {found:?}");
        }
        let now = found.iter().take_while(|found| **found).count() as u64 / 2;
        assert!(!found[(2 * now) as usize..].contains(&true), "a commit without those before it: {found:?}");
        assert!(now >= seen, "an older view after a newer one: {now} < {seen}");
        // Reads the records themselves.
        let keys: Vec<_> = (0..2 * now).map(key).collect();
        match pool.lookup(&keys) {
            Err(error) if may_be_closed && error.kind() == ErrorKind::Closed => {}
            found => assert!(found.unwrap().iter().all(Option::is_some)),
        }
        seen = now;
        thread::yield_now();
    }
}

fn track_pairs(pool: &Pool, pairs: u64, may_be_closed: bool) {
    for pair in 0..pairs {
        loop {
            match track(pool, &[2 * pair, 2 * pair + 1]) {
                Err(error) if may_be_closed && error.kind() == ErrorKind::Closed => thread::yield_now(),
                new => break assert_eq!(new.unwrap(), [true, true]),
            }
        }
    }
}

#[test]
fn readers_see_each_commit_whole_and_never_an_older_one_after_it() {
    explore("commits: whole and in order", || {
        let (_store, pool, _) = store();
        together(3, &Arc::new(pool), |thread, pool: &Pool| match thread {
            0 => track_pairs(pool, 3, false),
            _ => watch(pool, 3, false),
        });
    });
}

#[test]
fn so_they_do_while_commits_fold_and_merge() {
    explore("commits: folds", || {
        // A fold for every second pair, and segments that end.
        let sizes =
            Sizes { segment_slots: 16, chunk_slots: 16, fold_entries: 4, fold_slices: 2, ..Sizes::SMALL };
        let store = testing::in_memory(&options().0, sizes).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        together(2, &Arc::new(pool), |thread, pool: &Pool| match thread {
            0 => track_pairs(pool, 10, false),
            _ => watch(pool, 10, false),
        });
        let stats = store.stats().unwrap();
        assert!(stats.folds > 1 && stats.seals > 0, "{stats:?}");
    });
}

#[test]
fn so_they_do_while_a_pool_is_loaded_and_the_store_is_closed_and_opened() {
    explore("commits: reopening", || {
        let (store, pool, _) = store();
        store.reopen().unwrap();
        together(4, &Arc::new((store, pool)), |thread, (store, pool)| match thread {
            0 => track_pairs(pool, 3, true),
            1 => store.reopen().unwrap(),
            2 => {
                store.close().unwrap();
                store.reopen().unwrap();
            }
            _ => watch(pool, 3, true),
        });
    });
}

#[test]
fn a_deleted_pool_does_not_come_back_while_others_load_it() {
    explore("commits: deleted pool", || {
        let (store, pool, _) = store();
        track(&pool, &[1]).unwrap();
        store.reopen().unwrap();
        let is_deleted = AtomicBool::new(false);
        together(3, &Arc::new((store, pool, is_deleted)), |thread, (store, pool, is_deleted)| {
            if thread == 0 {
                store.delete_pool(pool.id()).unwrap();
                is_deleted.store(true, Ordering::SeqCst);
                return;
            }
            for _ in 0..3 {
                let was_deleted = is_deleted.load(Ordering::SeqCst);
                match contains(pool, &[1]) {
                    Ok(found) => assert!(found[0] && !was_deleted),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
                }
            }
        });
    });
}

/// A disk whose syncs fail from one of them on, until it is repaired. What was not synced is lost.
#[derive(Debug, Clone, Default)]
struct Failing(Arc<Bytes>);

#[derive(Debug, Default)]
struct Bytes {
    /// What is written, and what is synced.
    bytes: Mutex<(Vec<u8>, Vec<u8>)>,
    syncs_left: AtomicUsize,
}

impl Failing {
    fn repair(&self) {
        let mut bytes = self.0.bytes.lock().unwrap();
        bytes.0 = bytes.1.clone();
        self.0.syncs_left.store(usize::MAX, Ordering::SeqCst);
    }
}

impl Disk for Failing {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.copy_from_slice(&self.0.bytes.lock().unwrap().0[offset as usize..][..out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.bytes.lock().unwrap().0.resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let left = self.0.syncs_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(io::Error::other("the disk is broken"));
        }
        self.0.syncs_left.store(left - 1, Ordering::SeqCst);
        let mut bytes = self.0.bytes.lock().unwrap();
        bytes.1 = bytes.0.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.bytes.lock().unwrap().0[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn nobody_sees_a_value_that_a_failing_disk_loses_and_every_caller_gets_an_answer() {
    explore("commits: failing disk", || {
        let disk = Failing::default();
        disk.repair();
        let store = testing::on_disk(disk.clone(), &options().0, Sizes::SMALL).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        // How many commits this is depends on the schedule.
        disk.0.syncs_left.store(2, Ordering::SeqCst);
        let told = together(4, &Arc::new(pool.clone()), |thread, pool: &Pool| {
            let values = [10 * thread, 10 * thread + 1, 10 * thread + 2];
            if thread > 0 {
                return values.into_iter().filter(|value| track(pool, &[*value]).is_ok()).collect::<Vec<_>>();
            }
            let all: Vec<u64> = (10..33).collect();
            let looks = (0..4).filter_map(|_| contains(pool, &all).ok());
            let seen = looks.flat_map(|found| all.iter().copied().zip(found).filter(|(_, found)| *found));
            seen.map(|(value, _)| value).collect()
        });
        disk.repair();
        store.reopen().unwrap();
        for values in told {
            assert!(contains(&pool, &values).unwrap().iter().all(|found| *found), "{values:?} are lost");
        }
    });
}
