//! What callers submit, and where their answers go.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::operation::{Answer, Request};
use crate::error::Result;

/// The operations of one or more callers on a pool.
pub(super) struct Job {
    pub(super) requests: Vec<Request>,
    pub(super) answers: Answers,
}

/// The answer to each request, once it is there.
pub(super) type Answers = Arc<Mutex<Vec<Option<Result<Answer>>>>>;
