//! The threads that run the calls of async code: one that writes, up to four that read, and one for each long
//! call.
//!
//! Owns: [`Threads`], which start when they are first needed, and the timers of waiting tasks. Always holds:
//! an accepted call runs, unless its future was dropped before. Calls that write run in the order in which
//! they arrived; those that are queued together share one commit. If a pool may delay its calls, that holds
//! for the calls of each pool, which have a lane.

use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot;
use parking_lot::{Condvar, Mutex};

use crate::backend::Backend;
use crate::backend::lanes::Lanes;
use crate::backend::operation::{Entry, OfAnswer, Submission};
use crate::backend::waiting::Sleep;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::parallel::isolated;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::mpsc::{self, Receiver, Sender};
use crate::sync::{Instant, thread, thread_local};

/// The largest number of reader threads.
const READERS: usize = 4;

type Call = Box<dyn FnOnce() + Send>;

/// Prepares an operation. `None` if there is nothing to write.
type Prepare = Box<dyn FnOnce() -> Option<Entry> + Send>;

/// Before the store is closed, lanes that go on at least so often may end.
const LANES_SETTLE: Duration = Duration::from_secs(2);

/// A task of the writer thread.
enum Task {
    /// Prepares an operation on a pool, which shares a commit with the operations queued next to it.
    Write(PoolId, Prepare),
    /// Runs a blocking call.
    Run(Call),
    /// Closes the store after everything else. With the sender, the readers wake the thread once all calls
    /// have ended.
    Close(Call, Sender<Task>),
}

thread_local! {
    /// True on the thread of a long call.
    static IN_LONG_CALL: Cell<bool> = const { Cell::new(false) };
}

/// The place of a read in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Ahead of all queued calls.
    Next,
    Last,
}

/// The sender of a call's answer.
#[derive(Debug)]
pub(super) struct Answer<T>(oneshot::Sender<Result<T>>);

impl<T: Send + 'static> Answer<T> {
    /// Sends the answer. If the receiver was dropped, the answer is dropped.
    pub(super) fn give(self, answer: Result<T>) {
        let _ = self.0.send(answer);
    }

    /// Sends the answer of a call that has nothing to submit.
    pub(super) fn give_at_once(self, answer: Result<T>) -> Option<Entry> {
        self.give(answer);
        None
    }

    /// Returns an entry whose answer is converted by `finish` on the writer thread and then sent.
    pub(super) fn of<S: OfAnswer + 'static>(
        self,
        submission: Submission<S>,
        finish: impl FnOnce(Result<S>) -> Result<T> + Send + 'static,
    ) -> Entry {
        Entry::new(submission, move |answer| self.give(finish(answer)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Threads {
    /// True once the store has handles for async code.
    used: AtomicBool,
    /// True while the store is about to be closed.
    closing: Arc<AtomicBool>,
    writer: Mutex<Option<Sender<Task>>>,
    readers: Arc<Readers>,
}

impl Threads {
    /// Records that there are handles for async code. From now on, a thread closes the store after its last
    /// handle is dropped.
    pub(super) fn use_them(&self) {
        self.used.store(true, Ordering::SeqCst);
    }

    /// Returns true if the store has, or had, handles for async code.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::SeqCst)
    }

    /// Lets the writer thread close the store. Closes it here if there is no such thread.
    pub(crate) fn close_later(&self, backend: &Arc<dyn Backend>, close: impl FnOnce() + Send + 'static) {
        match self.writer(backend) {
            // The thread ends only after the sender is dropped.
            Ok(writer) => _ = writer.send(Task::Run(Box::new(close))),
            Err(_) => close(),
        }
    }

    fn admit(&self) -> Result<()> {
        if self.closing.load(Ordering::SeqCst) { Err(Error::closed()) } else { Ok(()) }
    }

    fn send(&self, backend: &Arc<dyn Backend>, task: Task) -> Result<()> {
        // The thread ends only after the sender is dropped.
        self.writer(backend)?.send(task).map_err(|_| ended())
    }

    /// Returns a sender to the writer thread, and starts the thread if necessary.
    fn writer(&self, backend: &Arc<dyn Backend>) -> Result<Sender<Task>> {
        let mut writer = self.writer.lock();
        if let Some(sender) = &*writer {
            return Ok(sender.clone());
        }
        let (sender, tasks) = mpsc::channel();
        let (backend, readers) = (Arc::downgrade(backend), Arc::clone(&self.readers));
        start("datapool-writer", move || write(&backend, &readers, &tasks))?;
        Ok(writer.insert(sender).clone())
    }

    /// Submits the entry that `prepare` returns. If the future is dropped before its turn comes, it is not
    /// run.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        backend: &Arc<dyn Backend>,
        pool: PoolId,
        prepare: impl FnOnce(Answer<T>) -> Option<Entry> + Send + 'static,
    ) -> Result<T> {
        self.admit()?;
        let (answer, receiver) = oneshot::channel();
        self.send(backend, Task::Write(pool, prepared(Answer(answer), prepare)))?;
        answer_to(receiver).await
    }

    /// Submits the entry that `prepare` returns, for a caller that does not wait.
    pub(super) fn write_unheard<T: Send + 'static>(
        &self,
        backend: &Arc<dyn Backend>,
        pool: PoolId,
        prepare: impl FnOnce(Answer<T>) -> Option<Entry> + Send + 'static,
    ) {
        let prepare = move || prepare(Answer(oneshot::channel().0));
        // If there is no thread, the claim ends with its lease.
        let _ = self.send(backend, Task::Write(pool, Box::new(prepare)));
    }

    /// Runs a call that writes but cannot share a commit, after the calls submitted before it; on its own thread if
    /// it may have to wait for a pool.
    pub(super) async fn write_alone<T: Send + 'static>(
        &self,
        backend: &Arc<dyn Backend>,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if backend.delays_by_pool() {
            return self.run(call).await;
        }
        self.admit()?;
        let (answer, receiver) = oneshot::channel();
        self.send(backend, Task::Run(heard(Answer(answer), call)))?;
        answer_to(receiver).await
    }

    /// Runs a call that reads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        turn: Turn,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.admit()?;
        let (answer, receiver) = oneshot::channel();
        self.readers.run(turn, heard(Answer(answer), call))?;
        answer_to(receiver).await
    }

    /// Runs a long call on its own thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.admit()?;
        let underway = self.readers.underway();
        alone(move || {
            let _underway = underway;
            IN_LONG_CALL.with(|is_in| is_in.set(true));
            call()
        })
        .await
    }

    /// Blocks until everything that was submitted before has an outcome, and items whose answer was never
    /// received are released.
    pub(crate) fn finish_writes(&self) {
        let Some(writer) = self.writer.lock().clone() else { return };
        // Tasks of the first round may submit more tasks. The second round waits for those.
        for _ in 0..2 {
            let (done, finished) = mpsc::channel::<()>();
            // The sender is dropped once the thread has run the task, or has ended.
            if writer.send(Task::Run(Box::new(move || drop(done)))).is_ok() {
                let _ = finished.recv();
            }
        }
    }

    /// Closes the store with `close` after everything that was submitted before. New calls are refused.
    pub(super) async fn close(
        &self,
        backend: &Arc<dyn Backend>,
        close: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        if IN_LONG_CALL.with(Cell::get) {
            let text =
                "closing waits for the calls that are under way, and cannot be waited for within one of them";
            return Err(Error::new(ErrorKind::Busy, text));
        }
        let (answer, receiver) = oneshot::channel();
        let closing = Arc::clone(&self.closing);
        let close = move || {
            let closed = close();
            closing.store(false, Ordering::SeqCst);
            Answer(answer).give(closed);
        };
        let writer = self.writer(backend)?;
        self.closing.store(true, Ordering::SeqCst);
        writer.send(Task::Close(Box::new(close), writer.clone())).map_err(|_| ended())?;
        answer_to(receiver).await
    }

    /// Sleeps until it is time to look again.
    pub(super) async fn sleep(&self, sleep: Sleep) {
        Sleeping { sleep, readers: Arc::clone(&self.readers), timer: None }.await;
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.readers.state.lock().stop = true;
        self.readers.changed.notify_all();
    }
}

/// Runs a call on its own thread. If it panics, the awaiting task panics, too, as if it had made the call
/// itself.
pub(super) async fn alone<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (answer, receiver) = oneshot::channel();
    start("datapool-call", move || {
        if !answer.is_canceled() {
            let _ = answer.send(catch_unwind(AssertUnwindSafe(call)));
        }
    })?;
    match receiver.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => resume(panic),
        Err(_) => Err(ended()),
    }
}

fn resume<T>(panic: Box<dyn Any + Send>) -> Result<T> {
    resume_unwind(panic)
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    let failed = |error| Error::storage(format!("starting the thread {name:?}: {error}")).with_source(error);
    started.map(drop).map_err(failed)
}

fn prepared<T: Send + 'static>(
    answer: Answer<T>,
    prepare: impl FnOnce(Answer<T>) -> Option<Entry> + Send + 'static,
) -> Prepare {
    Box::new(move || if answer.0.is_canceled() { None } else { prepare(answer) })
}

/// Returns a call that does nothing if the answer's receiver was dropped.
fn heard<T: Send + 'static>(answer: Answer<T>, call: impl FnOnce() -> Result<T> + Send + 'static) -> Call {
    Box::new(move || {
        if !answer.0.is_canceled() {
            answer.give(call());
        }
    })
}

async fn answer_to<T>(receiver: oneshot::Receiver<Result<T>>) -> Result<T> {
    receiver.await.unwrap_or_else(|_| Err(ended()))
}

fn ended() -> Error {
    Error::storage(
        "the call ended without an answer: its thread has ended, or it panicked and has printed why",
    )
}

/// Runs tasks until the store has no handle left.
fn write(backend: &Weak<dyn Backend>, readers: &Arc<Readers>, tasks: &Receiver<Task>) {
    let mut closes = Vec::new();
    let lanes = Arc::<Lanes<(Prepare, Underway)>>::default();
    while let Ok(first) = tasks.recv() {
        // All tasks are taken before any is prepared. So if a caller drops a future and calls again, the
        // first call is cancelled.
        let mut taken: Vec<Task> = std::iter::once(first).chain(tasks.try_iter()).collect();
        while !taken.is_empty() {
            let mut entries = Vec::new();
            for task in taken.drain(..) {
                match task {
                    // A panic must not end the thread, because other calls wait for it. The panicking call's
                    // answer is dropped, so its caller gets an error.
                    Task::Write(pool, prepare) if delays_by_pool(backend) => {
                        let (backend, prepared) = (Weak::clone(backend), (prepare, readers.underway()));
                        lanes.add(pool, prepared, move |taken| prepare_and_commit(&backend, taken));
                    }
                    Task::Write(_, prepare) => isolated(|| entries.extend(prepare())),
                    Task::Run(call) => {
                        commit(backend, std::mem::take(&mut entries));
                        lanes.settle(LANES_SETTLE);
                        isolated(call);
                    }
                    Task::Close(close, sender) => closes.push((close, sender)),
                }
            }
            commit(backend, entries);
            // These tasks may have submitted more, for example the release of items whose answer was never
            // received.
            taken.extend(tasks.try_iter());
        }
        // Running calls may submit more, too. The last of them wakes this thread.
        if closes.last().is_some_and(|(_, sender)| readers.is_idle_or_tells(sender)) {
            for (close, _) in closes.drain(..) {
                isolated(close);
            }
        }
    }
}

fn delays_by_pool(backend: &Weak<dyn Backend>) -> bool {
    backend.upgrade().is_some_and(|backend| backend.delays_by_pool())
}

/// What a lane does: the same as the thread that writes, for one pool.
fn prepare_and_commit(backend: &Weak<dyn Backend>, taken: Vec<(Prepare, Underway)>) {
    let (mut entries, mut underway) = (Vec::new(), Vec::new());
    for (prepare, call) in taken {
        underway.push(call);
        isolated(|| entries.extend(prepare()));
    }
    commit(backend, entries);
}

fn commit(backend: &Weak<dyn Backend>, entries: Vec<Entry>) {
    if !entries.is_empty()
        && let Some(backend) = backend.upgrade()
    {
        isolated(|| backend.submit_all(entries));
    }
}

// ---- Reading --------------------------------------------------------------------------------------------------

#[derive(Default)]
struct Readers {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    threads: usize,
    /// The number of idle threads.
    free: usize,
    /// The number of unfinished calls.
    underway: usize,
    /// The sender that wakes the writer thread once no call is left.
    told_idle: Option<Sender<Task>>,
    /// The wakers of sleeping tasks by wake time. The number distinguishes equal times.
    timers: BTreeMap<Timer, Waker>,
    next_number: u64,
    stop: bool,
}

type Timer = (Instant, u64);

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

/// Counts an unfinished call until it is dropped.
struct Underway(Arc<Readers>);

impl Drop for Underway {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.underway -= 1;
        let told = if state.underway == 0 { state.told_idle.take() } else { None };
        drop(state);
        if let Some(told) = told {
            // If the writer thread has ended, there is nothing to wake.
            let _ = told.send(Task::Run(Box::new(|| {})));
        }
    }
}

impl Readers {
    fn underway(self: &Arc<Self>) -> Underway {
        self.state.lock().underway += 1;
        Underway(Arc::clone(self))
    }

    /// Returns true if no call is unfinished. Otherwise a task is sent once the last one finishes.
    fn is_idle_or_tells(&self, told: &Sender<Task>) -> bool {
        let mut state = self.state.lock();
        if state.underway > 0 {
            state.told_idle = Some(told.clone());
        }
        state.underway == 0
    }

    fn run(self: &Arc<Self>, turn: Turn, call: Call) -> Result<()> {
        let underway = self.underway();
        let mut state = self.state.lock();
        if state.calls.len() >= state.free && state.threads < READERS {
            let readers = Arc::clone(self);
            match start("datapool-reader", move || readers.work()) {
                Ok(()) => state.threads += 1,
                // The existing threads take the call, only later.
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    // Dropping the counter takes the lock, so release it first.
                    drop(state);
                    return Err(error);
                }
            }
        }
        let call: Call = Box::new(move || {
            let _underway = underway;
            call();
        });
        match turn {
            Turn::Next => state.calls.push_front(call),
            Turn::Last => state.calls.push_back(call),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            let late = state.timers.split_off(&(Instant::now(), u64::MAX));
            let due = std::mem::replace(&mut state.timers, late);
            let call = state.calls.pop_front();
            if call.is_none() && due.is_empty() {
                if state.stop {
                    return;
                }
                state.free += 1;
                match state.timers.first_key_value().map(|((at, _), _)| *at) {
                    Some(at) => _ = self.changed.wait_until(&mut state, at),
                    None => self.changed.wait(&mut state),
                }
                state.free -= 1;
                continue;
            }
            drop(state);
            for waker in due.into_values() {
                isolated(|| waker.wake());
            }
            if let Some(call) = call {
                isolated(call);
            }
            state = self.state.lock();
        }
    }

    /// Sets a timer that wakes the waker at `at`. Replaces the previous timer.
    fn set(&self, timer: &mut Option<Timer>, at: Instant, waker: &Waker) {
        let mut state = self.state.lock();
        let key = *timer.get_or_insert_with(|| {
            state.next_number += 1;
            (at, state.next_number)
        });
        let replaced = state.timers.insert(key, waker.clone());
        drop(state);
        // Outside the lock: dropping a waker may drop a task that contains a sleeping future.
        drop(replaced);
        self.changed.notify_one();
    }
}

/// A future that is ready when it is time to look again.
struct Sleeping {
    sleep: Sleep,
    readers: Arc<Readers>,
    timer: Option<Timer>,
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { sleep, readers, timer } = &mut *self;
        if sleep.is_over(context.waker()) {
            return Poll::Ready(());
        }
        if let Some(at) = sleep.until {
            readers.set(timer, at, context.waker());
        }
        Poll::Pending
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            let removed = self.readers.state.lock().timers.remove(&timer);
            drop(removed);
        }
    }
}
