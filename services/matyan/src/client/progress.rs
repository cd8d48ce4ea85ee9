//! A progress bar on standard error. It is hidden without a terminal, and when the output is
//! for a program.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(crate) struct Progress {
    what: String,
    bar: ProgressBar,
    bytes: ProgressBar,
}

impl Progress {
    /// A bar over `total` items, labeled with `what`. A total of 0 is not yet known.
    pub(crate) fn new(total: u64, what: &str, is_quiet: bool) -> Self {
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.enable_steady_tick(Duration::from_millis(200));
        // This bar only counts; its position is shown in the message of the other bar.
        let progress = Self { what: what.to_owned(), bar, bytes: ProgressBar::hidden() };
        progress.set_total(total);
        progress
    }

    /// Sets the total: a bar if it is known, a spinner with a count until then.
    fn set_total(&self, total: u64) {
        let (shape, suffix) = if total > 0 { ("{bar:30} ", "/{len}") } else { ("{spinner} ", "") };
        let template = format!("{shape}{{pos}}{suffix} {}  {{msg}}  {{elapsed}}", self.what);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.bar.set_style(style);
        }
        self.bar.set_length(total);
    }

    pub(super) fn increment(&self) {
        self.bar.inc(1);
    }

    pub(crate) fn set(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.set_total(total);
        }
        self.bar.set_position(done);
    }

    /// Adds to the number of bytes transferred.
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.inc(bytes);
        self.bar.set_message(indicatif::HumanBytes(self.bytes.position()).to_string());
    }

    /// Writes to standard output while the bar is hidden.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
