//! Delivery of matching runs to a client. While the client keeps up, they are sent as of the
//! snapshot they were evaluated in; after a wait, the rest is read and evaluated again. So each
//! run is sent as of one snapshot, and no run outlives its snapshot.

use std::collections::VecDeque;

use matyan_model::ids::RunNumber;
use matyan_store::{Error as StoreError, Snapshot};

use crate::{
    query::candidates::{MatchPage, MatchedRun, RunScanner},
    server::error::{Error, Result},
};

/// Bounds on the number of runs reread at a time. It starts low, because the work is wasted if
/// the client makes the server wait again, and then grows.
const REREAD_RUNS: [usize; 2] = [4, 64];

/// Rank of a run among all matches, starting at 1; `None` if the preceding matches were not counted.
pub(crate) type Rank = Option<u64>;

pub(crate) struct Delivery {
    pending: VecDeque<(RunNumber, Rank)>,
    /// A page as of one snapshot, and how many of the pending runs it covers. It contains
    /// the runs that still match.
    page: Option<(MatchPage, usize)>,
    /// The run that took longer to read than the lifetime of its snapshot.
    late: Option<RunNumber>,
    /// Number of runs to read next.
    count: usize,
}

impl Delivery {
    /// Delivers runs that have not been read yet.
    pub(crate) fn new(numbers: impl IntoIterator<Item = (RunNumber, Rank)>) -> Self {
        Self { pending: numbers.into_iter().collect(), page: None, late: None, count: REREAD_RUNS[1] }
    }

    /// Delivers runs that were just read.
    pub(crate) fn from_page(page: MatchPage, ranks: impl IntoIterator<Item = Rank>) -> Self {
        let numbers = page.matched.iter().map(|matched| matched.candidate.number);
        let pending: VecDeque<_> = numbers.zip(ranks).collect();
        Self { page: Some((page, pending.len())), pending, late: None, count: REREAD_RUNS[1] }
    }

    /// The next matching run.
    pub(crate) async fn next(&mut self, scanner: &mut RunScanner) -> Result<Option<(Rank, MatchedRun)>> {
        while let Some(&(number, rank)) = self.pending.front() {
            let Some((page, read)) = self.page.as_mut().filter(|(_, read)| *read > 0) else {
                self.read(scanner).await?;
                continue;
            };
            self.pending.pop_front();
            *read -= 1;
            if let Some(matched) = page.matched.pop_front_if(|matched| matched.candidate.number == number) {
                return Ok(Some((rank, matched)));
            }
        }
        Ok(None)
    }

    async fn read(&mut self, scanner: &mut RunScanner) -> Result<()> {
        // A late run is read alone, because loading others with it may take longer than
        // a snapshot lives.
        let is_late = |(number, _): &(RunNumber, Rank)| Some(*number) == self.late;
        let count = if self.pending.front().is_some_and(is_late) { 1 } else { self.count };
        self.count = REREAD_RUNS[1].min(2 * self.count);
        let numbers: Vec<RunNumber> = self.pending.iter().take(count).map(|(number, _)| *number).collect();
        // Its snapshot would expire during a wait for room.
        self.page = None;
        let page = scanner.reread(&numbers).await?;
        // Runs after the last run that was read are requested again; deleted runs are skipped.
        let unread = page.unread.first().and_then(|first| numbers.iter().position(|number| number == first));
        if let Some(read) = unread {
            // As many as are likely to fit in a page.
            self.count = (2 * read).clamp(1, REREAD_RUNS[1]);
        }
        self.page = Some((page, unread.unwrap_or(numbers.len())));
        Ok(())
    }

    /// The snapshot that the run last returned by `next` was read from.
    pub(crate) fn snapshot(&self) -> &dyn Snapshot {
        let (page, _) =
            self.page.as_ref().expect("`next` returned a run, and `drop_snapshot` was not called since");
        page.snapshot.as_ref()
    }

    /// Drops the snapshot before waiting for the client.
    pub(crate) fn drop_snapshot(&mut self) {
        self.page = None;
        self.count = REREAD_RUNS[0];
    }

    /// Whether the snapshot was dropped, and nothing was read since.
    pub(crate) fn has_no_snapshot(&self) -> bool {
        self.page.is_none()
    }

    /// Puts a run back, and drops the snapshot before waiting.
    pub(crate) fn put_back(&mut self, number: RunNumber, rank: Rank) {
        self.pending.push_front((number, rank));
        self.drop_snapshot();
    }

    /// Puts a run back if `error` says that its snapshot expired. This is allowed once per
    /// run: a run that takes longer than any snapshot lives cannot be read.
    pub(crate) fn take_back(&mut self, number: RunNumber, rank: Rank, error: Error) -> Result<()> {
        match error {
            Error::Store(StoreError::SnapshotTooOld) if self.late != Some(number) => {
                self.late = Some(number);
                self.put_back(number, rank);
                Ok(())
            }
            error => Err(error),
        }
    }
}
