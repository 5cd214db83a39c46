//! What must hold in every order in which threads can go on.
//!
//! Each test runs `DATAPOOL_SCHEDULES` schedules. A thread that waits for ever fails it: the scheduler reports that no thread can go on,
//! or that the schedule has too many steps.

mod caches;
mod claims;
mod commits;
mod futures;
mod lanes;
mod leases;
mod queue;
