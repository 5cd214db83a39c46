//! Threads: parallel work whose results arrive in order, and callbacks that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread::{self, Scope, ScopedJoinHandle};

use crate::error::{Error, Result};

/// More threads would only wait for the caller that receives the results.
const THREADS_MAX: usize = 4;

/// Returns the number of threads that [`in_order`] uses for many pieces.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS_MAX))
}

/// Works on pieces in several threads, and hands the results over on the calling thread, in the order of the
/// pieces. Stops at the first error of `work` or `take`. Each thread is at most two results ahead. If there
/// is only one piece, the calling thread does it itself.
///
/// # Errors
///
/// The errors of `work` and `take`; `Storage` if the system cannot start a thread.
pub(crate) fn in_order<P, T: Send>(
    pieces: impl Iterator<Item = P> + Clone + Send,
    work: impl Fn(P) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    if pieces.clone().nth(1).is_none() {
        return pieces.map(work).try_for_each(|result| take(result?));
    }
    let threads = threads();
    thread::scope(|scope| {
        let mut results = Vec::with_capacity(threads);
        for number in 0..threads {
            let (sender, receiver) = mpsc::sync_channel(1);
            let (own, work) = (pieces.clone().skip(number).step_by(threads), &work);
            // The receiver is dropped when no more results are needed.
            spawn(scope, "datapool-worker", move || {
                own.map(work).try_for_each(|result| sender.send(result))
            })?;
            results.push(receiver);
        }
        // NOTE: a thread that panicked ends its results early; the scope then panics, too.
        results.iter().cycle().map_while(|receiver| receiver.recv().ok()).try_for_each(|result| take(result?))
    })
}

/// Starts a thread.
///
/// # Errors
///
/// `Storage` if the system cannot start one.
pub(crate) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let failed = |error| Error::storage(format!("starting the thread {name}: {error}")).with_source(error);
    thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).map_err(failed)
}

/// Runs code of the calling program: a waker or a callback. If it panics, the panic prints its message and is
/// caught here.
pub(crate) fn isolated(run: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(run));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_end_with_the_first_error() {
        for pieces in [0, 1, 2, 3, 100] {
            let mut taken = Vec::new();
            let take = |piece| {
                taken.push(piece);
                Ok(())
            };
            in_order(0..pieces, Ok, take).unwrap();
            assert_eq!(taken, (0..pieces).collect::<Vec<_>>());
        }
        let mut taken = Vec::new();
        let work = |piece| if piece == 40 { Err(Error::storage("40")) } else { Ok(piece) };
        let take = |piece| {
            taken.push(piece);
            Ok(())
        };
        assert!(in_order(0..100, work, take).unwrap_err().to_string().contains("40"));
        assert_eq!(taken, (0..40).collect::<Vec<_>>());
        let take = |piece| if piece == 7 { Err(Error::storage("full")) } else { Ok(()) };
        assert!(in_order(0..1_000_000, Ok, take).unwrap_err().to_string().contains("full"));
    }
}
