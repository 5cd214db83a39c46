//! Lanes: what is done for a pool, in order, beside what is done for other pools.

use std::sync::Arc;
use std::time::Duration;

use datapool_store::testing::scheduled::Lanes;
use datapool_store_interleavings::{explore, together};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

#[derive(Default)]
struct Ran {
    lanes: Lanes<u64>,
    done: Arc<(Mutex<Vec<u64>>, Condvar)>,
}

#[test]
fn every_entry_of_a_lane_runs_once_and_in_order() {
    explore("lanes", || {
        let ran = Arc::new(Ran::default());
        // Entries of 100 and more are those of the second lane.
        together(2, &ran, |thread, ran| {
            for entry in [0, 100, 1, 2, 101] {
                let entry = entry + 10 * thread;
                let done = Arc::clone(&ran.done);
                ran.lanes.add(entry / 100, entry, move |taken| {
                    for entry in taken {
                        thread::yield_now();
                        done.0.lock().unwrap().push(entry);
                        done.1.notify_all();
                    }
                });
            }
        });
        let (done, changed) = &*ran.done;
        let mut done = done.lock().unwrap();
        while done.len() < 10 {
            done = changed.wait(done).unwrap();
        }
        drop(done);
        ran.lanes.settle(Duration::from_secs(1));
        let done = ran.done.0.lock().unwrap();
        for number in [0, 10, 100, 110] {
            let own: Vec<u64> = done.iter().copied().filter(|entry| entry / 10 * 10 == number).collect();
            assert!(own.is_sorted(), "{done:?}");
        }
    });
}
