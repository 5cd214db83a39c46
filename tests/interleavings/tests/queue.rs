//! The queue of callers that share commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datapool_store::testing::scheduled::Queue;
use datapool_store::{Error, ErrorKind, Timestamp};
use datapool_store_interleavings::{explore, together};
use shuttle::sync::Mutex;
use shuttle::thread;

/// An error that quotes a text. Only the library makes errors.
fn error(text: &str) -> Error {
    text.parse::<Timestamp>().unwrap_err()
}

#[derive(Default)]
struct Ran {
    queue: Queue<u64>,
    /// The groups in the order in which they ran.
    groups: Mutex<Vec<Vec<u64>>>,
    running: AtomicUsize,
}

impl Ran {
    fn submit(&self, job: u64, alone: bool) -> datapool_store::Result<()> {
        self.queue.submit(job, alone, |jobs| self.lead(job, jobs))
    }

    fn lead(&self, own: u64, jobs: Vec<u64>) -> datapool_store::Result<()> {
        assert_eq!(self.running.fetch_add(1, Ordering::SeqCst), 0, "two groups run");
        assert_eq!(jobs[0], own, "the leader's job is not the first");
        thread::yield_now();
        let is_refused = jobs.iter().any(|job| job % 3 == 0);
        let text = format!("{jobs:?}");
        self.groups.lock().unwrap().push(jobs);
        thread::yield_now();
        self.running.fetch_sub(1, Ordering::SeqCst);
        if is_refused { Err(error(&text)) } else { Ok(()) }
    }

    /// Checks that a call got the result of the group that had its job.
    fn check(&self, job: u64, result: datapool_store::Result<()>) {
        let groups = self.groups.lock().unwrap();
        let mut own = groups.iter().filter(|group| group.contains(&job));
        let (group, others) = (own.next().unwrap(), own.count());
        assert_eq!(others, 0, "job {job} ran twice");
        let refused = group.iter().any(|job| job % 3 == 0).then(|| format!("{group:?}"));
        match (result, refused) {
            (Ok(()), None) => {}
            (Err(error), Some(text)) if error.to_string().contains(&text) => {}
            (result, _) => panic!("job {job} of {group:?} got {result:?}"),
        }
    }
}

#[test]
fn every_job_runs_once_and_its_caller_gets_the_result_of_its_group() {
    explore("queue: jobs and results", || {
        let ran = Arc::new(Ran::default());
        together(3, &ran, |thread, ran| {
            for job in [10 * thread, 10 * thread + 1] {
                let result = ran.submit(job, job == 10);
                ran.check(job, result);
            }
        });
        assert_eq!(ran.groups.lock().unwrap().concat().len(), 6);
        assert_eq!(ran.queue.waiting(), 0);
    });
}

#[test]
fn jobs_run_in_the_order_in_which_they_came() {
    explore("queue: order", || {
        let ran = Arc::new(Ran::default());
        let mut threads = Vec::new();
        let leading = Arc::clone(&ran);
        let led = ran.queue.submit(1, false, |jobs| {
            for number in 2..6 {
                let ran = Arc::clone(&leading);
                threads.push(thread::spawn(move || ran.submit(number, number == 4)));
                while (leading.queue.waiting() as u64) < number - 1 {
                    thread::yield_now();
                }
            }
            leading.groups.lock().unwrap().push(jobs);
            Ok(())
        });
        led.unwrap();
        for thread in threads {
            let _ = thread.join().unwrap();
        }
        assert_eq!(*ran.groups.lock().unwrap(), [vec![1], vec![2, 3], vec![4], vec![5]]);
    });
}

#[test]
fn a_job_from_within_a_group_is_refused_and_everybody_else_goes_on() {
    explore("queue: from within", || {
        let ran = Arc::new(Ran::default());
        let others = {
            let ran = Arc::clone(&ran);
            thread::spawn(move || together(2, &ran, |thread, ran| ran.submit(7 + 3 * thread, false).unwrap()))
        };
        let result = ran.queue.submit(1, false, |_| {
            let refused = ran.queue.submit(2, false, |_| panic!("it ran"));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Busy);
            Ok(())
        });
        // Another caller's group may have had the job.
        result.unwrap();
        others.join().unwrap();
        ran.submit(4, false).unwrap();
    });
}
