//! How far a long command is, on standard error. Without a terminal, and where the answer is for a program, there is nothing to see.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(super) struct Progress {
    what: String,
    bar: ProgressBar,
    bytes: ProgressBar,
}

impl Progress {
    /// `total` things, named by `what`; 0 while it is not known.
    pub(super) fn new(total: u64, what: &str, is_quiet: bool) -> Self {
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.enable_steady_tick(Duration::from_millis(200));
        // Only counted here; the bar above shows it.
        let progress = Self { what: what.to_owned(), bar, bytes: ProgressBar::hidden() };
        progress.of(total);
        progress
    }

    /// A bar needs an end; until it is known there is a count.
    fn of(&self, total: u64) {
        let (shape, of) = if total > 0 { ("{bar:30} ", "/{len}") } else { ("{spinner} ", "") };
        let template = format!("{shape}{{pos}}{of} {}  {{msg}}  {{elapsed}}", self.what);
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.bar.set_style(style);
        }
        self.bar.set_length(total);
    }

    pub(super) fn one(&self) {
        self.bar.inc(1);
    }

    pub(super) fn at(&self, done: u64, of: u64) {
        if self.bar.length() != Some(of) {
            self.of(of);
        }
        self.bar.set_position(done);
    }

    /// That many more have passed.
    pub(super) fn bytes(&self, bytes: u64) {
        self.bytes.inc(bytes);
        self.bar.set_message(indicatif::HumanBytes(self.bytes.position()).to_string());
    }

    /// Writes to standard output without the bar in between.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
