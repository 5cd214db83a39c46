//! Progress bars on standard error. They appear only on a terminal, and are removed at the end.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use datapool_store::Progress;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// The interval at which a spinner turns.
const TURN: Duration = Duration::from_millis(100);

const SPINNER: &str = "{prefix} {spinner} {msg} {elapsed}";
const OF_BYTES: &str =
    "{prefix} [{wide_bar}] {percent}% of {total_bytes}, {binary_bytes_per_sec}, {eta} left, {msg}";
const OF_ITEMS: &str = "{prefix} [{wide_bar}] {human_pos} of {human_len}, {rate}/s, {eta} left";
const OF_PARTS: &str = "{prefix} [{wide_bar}] {percent}%, {elapsed}";

/// The number of parts into which a whole is divided if its progress is a share.
const PARTS: u64 = 1_000;

/// A bar, which is cleared when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar(Handle);

/// Moves a bar. The code that observes the work has one.
#[derive(Debug, Clone)]
pub(crate) struct Handle(ProgressBar);

impl Bar {
    /// Creates a bar that is never shown, because the output goes to the same terminal.
    pub(crate) fn hidden() -> Self {
        Self(Handle(ProgressBar::hidden()))
    }

    /// Creates a bar over this many bytes.
    pub(crate) fn bytes(prefix: &'static str, total: u64) -> Self {
        Self::new(prefix, Some(total), OF_BYTES)
    }

    /// Creates a bar over a whole whose progress is a share of it.
    pub(crate) fn parts(prefix: &'static str) -> Self {
        Self::new(prefix, Some(PARTS), OF_PARTS)
    }

    /// Creates a spinner, for work whose progress is unknown.
    pub(crate) fn spinner(prefix: &'static str) -> Self {
        let bar = Self::new(prefix, None, SPINNER);
        bar.0.turn();
        bar
    }

    fn new(prefix: &'static str, total: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_prefix(prefix);
        Self(Handle(bar.with_style(style(template))))
    }

    pub(crate) fn handle(&self) -> Handle {
        self.0.clone()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.0.finish_and_clear();
    }
}

impl Handle {
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Turns a spinner into a bar, with the first call.
    pub(crate) fn set_of(&self, done: u64, total: u64) {
        if self.0.length() != Some(total) {
            self.0.set_length(total);
            self.0.set_style(style(OF_ITEMS));
            self.0.reset_eta();
        }
        self.0.set_position(done);
    }

    /// Sets the progress. `share` is from 0 to 1.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share"
    )]
    pub(crate) fn set_share(&self, share: f64) {
        self.0.set_position((share.clamp(0.0, 1.0) * PARTS as f64) as u64);
    }

    /// Also shows the number of finished rows.
    pub(crate) fn say_rows(&self, rows: u64) {
        self.0.set_message(format!("{} rows", HumanCount(rows)));
    }

    /// Turns the bar into a spinner, because the rest of the work reports no progress.
    pub(crate) fn turn(&self) {
        if self.0.is_hidden() {
            return;
        }
        self.0.set_style(style(SPINNER));
        self.0.enable_steady_tick(TURN);
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", write_rate)
}

/// Writes items per second without decimals, unlike indicatif's own rate.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is shown, not computed with"
)]
fn write_rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // Work goes on even if the bar cannot be drawn.
    let _ = write!(out, "{}", HumanCount(state.per_sec() as u64));
}

/// Returns an observer that moves a bar with the progress of an operation.
pub(crate) fn follow(bar: Handle) -> impl Fn(Progress) -> ControlFlow<()> {
    move |progress| {
        bar.set_of(progress.done, progress.total);
        ControlFlow::Continue(())
    }
}
