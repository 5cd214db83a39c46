//! The places of calls: how many of them may use a connection at a time.
//!
//! Owns: [`Places`], the connections that are free, with the number of those that are open. Always holds: no more are open than
//! there are places; a call that waits for a lock lends its place to another one. Must not know: what a connection is.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::failure::{Failure, late};
use crate::error::Error;

/// The most places that are lent at a time.
const LENT_MAX: usize = 24;

/// The connections that calls use. Snapshots have others.
pub(super) struct Places<C> {
    /// The most that are in use at a time, not counting calls that wait for a lock.
    most: usize,
    free: Mutex<Free<C>>,
    returned: Condvar,
}

struct Free<C> {
    connections: Vec<C>,
    /// The number of those that are free or in use.
    open: usize,
    /// The number of those whose calls wait for a lock.
    lent: usize,
    closed: bool,
}

impl<C> Free<C> {
    fn may_open(&self, most: usize) -> bool {
        self.open < most + self.lent
    }
}

impl<C> Places<C> {
    pub(super) fn new(most: usize) -> Self {
        let free = Free { connections: Vec::new(), open: 0, lent: 0, closed: false };
        Self { most, free: Mutex::new(free), returned: Condvar::new() }
    }

    /// Lets another call use a connection while one waits for a lock: that other call may be on a pool that nobody has locked.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Lent<C>> {
        let mut free = self.free.lock();
        if free.lent >= LENT_MAX {
            return None;
        }
        free.lent += 1;
        drop(free);
        self.returned.notify_one();
        Some(Lent(Arc::clone(self)))
    }

    /// Takes a place. Returns its connection, or `None` if the caller must make one.
    pub(super) fn take(&self, until: Option<Instant>) -> Result<Option<C>, Failure> {
        let mut free = self.free.lock();
        loop {
            if free.closed {
                return Err(Error::closed().into());
            }
            if let Some(connection) = free.connections.pop() {
                return Ok(Some(connection));
            }
            if free.may_open(self.most) {
                free.open += 1;
                return Ok(None);
            }
            match until {
                None => self.returned.wait(&mut free),
                Some(until) if self.returned.wait_until(&mut free, until).timed_out() => {
                    return Err(late());
                }
                Some(_) => {}
            }
        }
    }

    /// Returns a place whose connection was not made, or is not used again.
    pub(super) fn give_up(&self) {
        self.free.lock().open -= 1;
        self.returned.notify_one();
    }

    /// Returns a connection that can be used again.
    pub(super) fn give_back(&self, connection: C) {
        let mut free = self.free.lock();
        let is_one_too_many = free.open > self.most + free.lent;
        if free.closed || is_one_too_many {
            free.open -= 1;
            drop(free);
            drop(connection);
        } else {
            free.connections.push(connection);
            drop(free);
        }
        self.returned.notify_one();
    }

    /// Drops the connections that are free.
    pub(super) fn drop_free(&self) {
        let mut free = self.free.lock();
        free.open -= free.connections.len();
        let dropped = std::mem::take(&mut free.connections);
        drop(free);
        drop(dropped);
        self.returned.notify_all();
    }

    /// Closes the connections that are free, and the others when they are returned.
    pub(super) fn close(&self) {
        self.free.lock().closed = true;
        self.drop_free();
    }

    /// Goes on with new connections, whether they were closed or not.
    pub(super) fn reopen(&self) {
        self.free.lock().closed = false;
        self.drop_free();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.free.lock().closed
    }
}

/// The place of a call that waits for a lock.
pub(super) struct Lent<C>(Arc<Places<C>>);

impl<C> Drop for Lent<C> {
    fn drop(&mut self) {
        self.0.free.lock().lent -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A connection, of which one sees if it is still open.
    type Open = Arc<()>;

    fn places(most: usize) -> Arc<Places<Open>> {
        Arc::new(Places::new(most))
    }

    /// Takes a place, if one is there now: true if the caller must make a connection.
    fn take(places: &Places<Open>) -> Option<bool> {
        match places.take(Some(Instant::now())) {
            Ok(connection) => Some(connection.is_none()),
            Err(Failure::Lost(_)) => None,
            Err(failure) => panic!("{failure:?}"),
        }
    }

    #[test]
    fn no_more_connections_are_open_than_there_are_places() {
        let places = places(2);
        assert_eq!([take(&places), take(&places), take(&places)], [Some(true), Some(true), None]);
        places.give_back(Open::default());
        assert_eq!([take(&places), take(&places)], [Some(false), None]);
        places.give_up();
        assert_eq!([take(&places), take(&places)], [Some(true), None]);
        places.give_back(Open::default());
        places.give_back(Open::default());
        places.drop_free();
        assert_eq!([take(&places), take(&places), take(&places)], [Some(true), Some(true), None]);
    }

    #[test]
    fn a_place_that_is_lent_is_one_more_until_the_lender_has_it_back() {
        let (places, connection) = (places(1), Open::default());
        assert_eq!([take(&places), take(&places)], [Some(true), None]);
        let lent = places.lend().unwrap();
        assert_eq!([take(&places), take(&places)], [Some(true), None]);
        drop(lent);
        // Two are open, which is one too many, so the first that comes back is closed.
        places.give_back(Arc::clone(&connection));
        assert_eq!((Arc::strong_count(&connection), take(&places)), (1, None));
        places.give_back(Arc::clone(&connection));
        assert_eq!((Arc::strong_count(&connection), take(&places)), (2, Some(false)));
        let all: Vec<_> = (0..LENT_MAX).map(|_| places.lend().unwrap()).collect();
        assert!(places.lend().is_none());
        drop(all);
        assert!(places.lend().is_some());
    }

    #[test]
    fn closing_drops_the_free_connections_at_once_and_the_others_when_they_are_returned() {
        let (places, free, used) = (places(2), Open::default(), Open::default());
        assert_eq!([take(&places), take(&places)], [Some(true), Some(true)]);
        places.give_back(Arc::clone(&free));
        assert!(!places.is_closed());
        places.close();
        assert!(places.is_closed());
        assert_eq!(Arc::strong_count(&free), 1);
        let refused = places.take(None).unwrap_err().into_error();
        assert_eq!(refused.kind(), crate::error::ErrorKind::Closed);
        places.give_back(Arc::clone(&used));
        assert_eq!(Arc::strong_count(&used), 1);
        places.reopen();
        assert_eq!([take(&places), take(&places), take(&places)], [Some(true), Some(true), None]);
    }

    #[test]
    fn who_waits_for_a_place_gets_the_next_one_that_is_free() {
        type Release = fn(&Arc<Places<Open>>) -> Option<Lent<Open>>;
        let releases: [(Release, bool); 3] = [
            (
                |places| {
                    places.give_back(Open::default());
                    None
                },
                false,
            ),
            (
                |places| {
                    places.give_up();
                    None
                },
                true,
            ),
            (|places| places.lend(), true),
        ];
        for (release, must_make) in releases {
            let places = places(1);
            assert_eq!(take(&places), Some(true));
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| places.take(None).unwrap().is_none());
                // Most of the time, it waits by then. Otherwise it finds the place without waiting.
                std::thread::sleep(Duration::from_millis(5));
                let _lent = release(&places);
                assert_eq!(waits.join().unwrap(), must_make);
            });
        }
    }
}
