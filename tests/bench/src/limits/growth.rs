//! Growth of the project in one dimension: sizes that were reached, and why it ended.

use std::time::Instant;

use matyan_tests::Server;

use super::{
    content::{Dimension, Size},
    free_bytes,
    views::{Slowest, Times, View, Viewer},
};
use crate::{
    disk::{settled, size_of},
    scale::{count, significant},
};

/// Number of times that each view is opened at a size.
const SAMPLES: u64 = 200;

pub(super) struct Growth {
    pub(super) name: &'static str,
    pub(super) dimension: Dimension,
    /// Size up to which W&B recommends a project.
    pub(super) recommended: u64,
    pub(super) goal: u64,
    /// The largest size that is measured.
    pub(super) target: u64,
    /// Time and disk space that all content of the dimension has taken so far.
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) reached: Vec<Reached>,
    pub(super) ended: Option<String>,
}

/// A size at which all views were read.
#[derive(Clone, Copy)]
pub(super) struct Reached {
    pub(super) size: u64,
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) chart: Option<Slowest>,
    pub(super) page: Option<Slowest>,
}

impl Growth {
    pub(super) fn new(
        name: &'static str,
        dimension: Dimension,
        [recommended, goal]: [u64; 2],
        target: u64,
    ) -> Self {
        Self {
            name,
            dimension,
            recommended,
            goal,
            target,
            seconds: 0.0,
            bytes: 0,
            reached: Vec::new(),
            ended: None,
        }
    }

    /// Grows to a size, unless the disk is too small for it: a doubling needs as much as everything before it.
    pub(super) async fn grow(&mut self, server: &Server, size: &mut Size, to: u64, reserve: u64) {
        if self.ended.is_some() {
            return;
        }
        let directory = server.data_dir();
        let free = free_bytes(&directory);
        if free < self.bytes + reserve {
            let [free, needed] = [free, self.bytes].map(|bytes| significant(bytes as f64 / 1e9));
            self.ended = Some(format!("the disk, with {free} GB free and {needed} GB needed"));
            return;
        }
        let before = size_of(&directory);
        let start = Instant::now();
        size.grow(server, self.dimension, to).await;
        self.seconds += start.elapsed().as_secs_f64();
        self.bytes += settled(&directory).await.saturating_sub(before);
    }

    /// Opens the views of the dimension, and prints a row about this size.
    pub(super) async fn measure(&mut self, viewer: &mut Viewer, size: Size) {
        let own = size.of(self.dimension);
        if own == 0 {
            return;
        }
        let mut times = Times::of(View::ALL.into_iter().filter(|view| view.dimension() == self.dimension));
        for sample in 0..SAMPLES {
            viewer.open(&mut times, sample, size).await;
        }
        let reached = Reached {
            size: own,
            seconds: self.seconds,
            bytes: self.bytes,
            chart: times.slowest_chart(),
            page: times.slowest_page(),
        };
        self.print(&reached);
        if let Some(refusal) = times.refusal() {
            if self.ended.is_none() {
                self.ended = Some(format!("at {}, {refusal}", count(own)));
            }
            return;
        }
        match self.reached.last_mut() {
            // Only the other dimensions have grown.
            Some(last) if last.size == own => *last = reached,
            _ => self.reached.push(reached),
        }
    }

    fn print(&self, reached: &Reached) {
        let Reached { size, seconds, bytes, chart, page } = reached;
        let [chart, page] =
            [chart, page].map(|slowest| slowest.map_or_else(String::new, |of| significant(of.p99)));
        println!(
            "| {} | {} | {} | {} | {chart} | {page} |",
            self.name,
            count(*size),
            significant(*seconds),
            significant(*bytes as f64 / 1e9)
        );
    }
}
