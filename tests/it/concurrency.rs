//! Behaviour with concurrent threads.

mod held_snapshots;
mod histories;
mod soak;
mod threads;
mod under_load;
