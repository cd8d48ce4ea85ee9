//! How far a long command is, on standard error. Without a terminal, and where the answer is for a program, there is nothing to see.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(super) struct Progress {
    bar: ProgressBar,
    bytes: ProgressBar,
}

impl Progress {
    /// `total` things, named by `what`; 0 while it is not known.
    pub(super) fn new(total: u64, what: &str, is_quiet: bool) -> Self {
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = format!("{{bar:30}} {{pos}}/{{len}} {what}  {{msg}}  {{elapsed}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        // Only counted here; the bar above shows it.
        Self { bar, bytes: ProgressBar::hidden() }
    }

    pub(super) fn one(&self) {
        self.bar.inc(1);
    }

    pub(super) fn at(&self, done: u64, of: u64) {
        self.bar.set_length(of);
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
