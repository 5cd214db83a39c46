//! Jobs: the operations that callers submit, and the places of their answers.
//!
//! Must not know: how jobs are grouped.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::operation::{Answer, Request};
use crate::error::Result;

/// The operations of one or more callers on a pool.
pub(super) struct Job {
    pub(super) requests: Vec<Request>,
    pub(super) answers: Answers,
}

/// The answer to each request; `None` until it is decided.
pub(super) type Answers = Arc<Mutex<Vec<Option<Result<Answer>>>>>;
