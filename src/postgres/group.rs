//! Group commit: operations of the callers of a process on one pool share a transaction.
//!
//! Owns: the callers in line, the groups that they form, and their answers. Always holds: operations of a group are decided in
//! order; each caller gets the answer to its own. Must not know: what an operation reads or writes.

use std::sync::Arc;

use super::job::{Answers, Job};
use super::lookup::{Lock, Needs};
use super::store::Postgres;
use crate::backend::operation::{Answer, Entry, Operation, Request};
use crate::backend::queue::Weight;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::parallel::isolated;

/// Returns true if an operation shares its transaction with no other.
fn is_alone(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::DeleteWhere(_)
            | Operation::Clear
            | Operation::TakeUp { .. }
            | Operation::ReleaseMatching(_)
    )
}

impl Postgres {
    pub(super) fn submit_request(&self, request: Request) -> Result<Answer> {
        let (pool, weight) = (request.pool, request.weight);
        let mut answers = self.submit_job(pool, vec![request], weight);
        answers.pop().unwrap_or_else(|| Err(Error::storage("the operation was not performed")))
    }

    pub(super) fn submit_entries(&self, entries: Vec<Entry>) {
        let mut rest = entries.into_iter().peekable();
        while let Some(Entry { request, deliver }) = rest.next() {
            let (pool, mut weight) = (request.pool, request.weight);
            let (mut requests, mut delivers) = (vec![request], vec![deliver]);
            while let Some(next) =
                rest.next_if(|next| next.request.pool == pool && weight.plus(next.request.weight).fits())
            {
                weight = weight.plus(next.request.weight);
                requests.push(next.request);
                delivers.push(next.deliver);
            }
            let answers = self.submit_job(pool, requests, weight);
            for (deliver, answer) in delivers.into_iter().zip(answers) {
                // It runs code of the program that uses the store.
                isolated(|| deliver(answer));
            }
        }
    }

    /// Submits operations on a pool. Returns an answer for each, in order.
    fn submit_job(&self, pool: PoolId, requests: Vec<Request>, weight: Weight) -> Vec<Result<Answer>> {
        let count = requests.len();
        let answers = Answers::default();
        let queue = Arc::clone(self.queues.lock().entry(pool).or_default());
        let job = Job { requests, answers: Arc::clone(&answers) };
        let ran = queue.submit(job, weight, |jobs| {
            self.run_jobs(pool, jobs);
            Ok(())
        });
        self.waiting.notify();
        let mut answers = std::mem::take(&mut *answers.lock());
        answers.resize_with(count, || None);
        let refused = ran.err().unwrap_or_else(|| Error::storage("the operation was not performed"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(refused.clone()))).collect()
    }

    /// Runs the jobs of a group: in one transaction, or in several if an operation must end its own.
    fn run_jobs(&self, pool: PoolId, jobs: Vec<Job>) {
        let places: Vec<(usize, usize)> = jobs
            .iter()
            .enumerate()
            .flat_map(|(job, of)| (0..of.requests.len()).map(move |request| (job, request)))
            .collect();
        let operations: Vec<&Operation> =
            jobs.iter().flat_map(|job| job.requests.iter().map(|request| &request.operation)).collect();
        let mut answers: Vec<Result<Answer>> = Vec::with_capacity(operations.len());
        while let Some(rest) = operations.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            match self.run_group(pool, rest) {
                Ok(mut done) if !done.is_empty() => answers.append(&mut done),
                Ok(_) => answers.push(Err(Error::storage("the operation was not performed"))),
                Err(failed) => {
                    let count = rest.len();
                    answers.extend((0..count).map(|_| Err(failed.clone())));
                }
            }
        }
        for ((job, request), answer) in places.into_iter().zip(answers) {
            if let Some(job) = jobs.get(job) {
                let mut slots = job.answers.lock();
                if slots.len() <= request {
                    slots.resize_with(request + 1, || None);
                }
                if let Some(slot) = slots.get_mut(request) {
                    *slot = Some(answer);
                }
            }
        }
    }

    /// Performs operations from the first one on, until one must end its transaction. Returns the answers to those performed.
    fn run_group(&self, pool: PoolId, operations: &[&Operation]) -> Result<Vec<Result<Answer>>> {
        if let [first, ..] = operations
            && is_alone(first)
        {
            return self.run_alone(pool, first).map(|answer| vec![Ok(answer)]);
        }
        let shared = operations.iter().take_while(|operation| !is_alone(operation)).count();
        let operations = operations.get(..shared).unwrap_or_default();
        let needs = Needs::of(operations.iter().copied());
        self.execute_once(pool, |connection| {
            let mut draft = self.read_draft(connection, pool, &needs, Lock::ForUpdate)?;
            let mut decided = Vec::with_capacity(operations.len());
            for operation in operations {
                decided.push(draft.perform(operation));
                // The next operation must not see what this one evicts.
                if draft.head.excess() > 0 {
                    break;
                }
            }
            self.write(connection, draft, decided)
        })
    }
}
