//! Helpers for the tests of futures: a hand-written executor, and a disk that records who waits for it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use datapool_store::testing::{self, Disk, Sizes};
use datapool_store::{DataPoolStore, Result, StoreOptions};

thread_local! {
    /// True while this thread polls or drops a [`Watched`] future.
    static IN_EXECUTOR: Cell<bool> = const { Cell::new(false) };
}

/// Runs code as an executor's thread. The code must not touch the disk.
pub fn as_executor<T>(run: impl FnOnce() -> T) -> T {
    let before = IN_EXECUTOR.replace(true);
    let answer = run();
    IN_EXECUTOR.set(before);
    answer
}

/// A future that marks the thread that polls or drops it.
#[derive(Debug)]
pub struct Watched<F>(Option<Pin<Box<F>>>);

/// Wraps a future so that it marks the threads that poll or drop it, in any executor.
pub fn watched<F: Future>(future: F) -> Watched<F> {
    Watched(Some(Box::pin(future)))
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.0 else { return Poll::Pending };
        as_executor(|| future.as_mut().poll(context))
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        as_executor(|| drop(self.0.take()));
    }
}

/// A disk in memory that can be blocked, and that records if an executor's thread has used it.
#[derive(Debug, Clone, Default)]
pub struct WatchedDisk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Mutex<Vec<u8>>,
    held: Mutex<Held>,
    changed: Condvar,
    touched: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    is_held: bool,
    /// The number of threads that wait for the disk.
    waiting: usize,
}

impl WatchedDisk {
    /// Creates or opens the store on the disk.
    ///
    /// # Errors
    ///
    /// The errors of opening.
    pub fn open(&self, options: &StoreOptions) -> Result<DataPoolStore> {
        testing::on_disk(self.clone(), options, Sizes::SMALL)
    }

    /// Blocks every use of the disk, or lets them continue.
    pub fn hold(&self, held: bool) {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).is_held = held;
        self.0.changed.notify_all();
    }

    /// Waits until a thread is waiting for the disk.
    pub fn wait_until_wanted(&self) {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        while held.waiting == 0 {
            held = self.0.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns true if an executor's thread has used the disk.
    pub fn was_touched(&self) -> bool {
        self.0.touched.load(Ordering::SeqCst)
    }

    fn bytes<T>(&self, of: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if IN_EXECUTOR.get() {
            self.0.touched.store(true, Ordering::SeqCst);
        }
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        while held.is_held {
            held.waiting += 1;
            self.0.changed.notify_all();
            held = self.0.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
            held.waiting -= 1;
        }
        drop(held);
        of(&mut self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn range(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    Ok(start..start + len)
}

impl Disk for WatchedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes(|bytes| bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = range(offset, out.len())?;
        self.bytes(|bytes| {
            out.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.bytes(|bytes| bytes.resize(len, 0));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.bytes(|_| Ok(()))
    }

    fn beside(&self) -> io::Result<Box<dyn Disk>> {
        self.bytes(|_| Ok(Box::new(Self::default()) as Box<dyn Disk>))
    }

    fn take_over(&self, copy: &dyn Disk) -> io::Result<()> {
        let mut all = vec![0; usize::try_from(copy.len()?).map_err(io::Error::other)?];
        copy.read(0, &mut all)?;
        self.bytes(|bytes| *bytes = all);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = range(offset, data.len())?;
        self.bytes(|bytes| {
            if bytes.len() < range.end {
                bytes.resize(range.end, 0);
            }
            bytes.get_mut(range).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
            Ok(())
        })
    }
}

/// A hand-written executor with one thread. It polls woken tasks, and sleeps while there are none.
#[derive(Debug, Default)]
pub struct Executor {
    ready: Arc<Ready>,
}

#[derive(Debug, Default)]
struct Ready {
    numbers: Mutex<VecDeque<usize>>,
    woken: Condvar,
}

struct Woken {
    number: usize,
    ready: Arc<Ready>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.ready.numbers.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.number);
        self.ready.woken.notify_one();
    }
}

impl Executor {
    /// Runs the futures until all are ready. Returns their outputs in order.
    pub fn run<F: Future>(&self, futures: Vec<F>) -> Vec<F::Output> {
        let mut tasks: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
        let mut outputs: Vec<Option<F::Output>> = tasks.iter().map(|_| None).collect();
        let mut left = tasks.len();
        for number in 0..tasks.len() {
            self.waker(number).wake();
        }
        while left > 0 {
            let number = self.next();
            let Some(slot) = tasks.get_mut(number) else { continue };
            let Some(task) = slot else { continue };
            if let Poll::Ready(output) = task.as_mut().poll(&mut Context::from_waker(&self.waker(number))) {
                *slot = None;
                left -= 1;
                if let Some(place) = outputs.get_mut(number) {
                    *place = Some(output);
                }
            }
        }
        outputs.into_iter().flatten().collect()
    }

    fn waker(&self, number: usize) -> Waker {
        Arc::new(Woken { number, ready: Arc::clone(&self.ready) }).into()
    }

    fn next(&self) -> usize {
        let mut numbers = self.ready.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match numbers.pop_front() {
                Some(number) => return number,
                None => numbers = self.ready.woken.wait(numbers).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Polls a future once, with a waker that does nothing.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    as_executor(|| future.poll(&mut Context::from_waker(Waker::noop())))
}
