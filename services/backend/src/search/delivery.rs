//! Runs that match, on their way to a client. As long as nobody waits they are sent as they were when they were evaluated;
//! after a wait the rest is read and evaluated again, so that each is sent as of one moment and no snapshot outlives it.

use std::collections::VecDeque;

use matyan_model::ids::RunNumber;
use matyan_store::{Error as StoreError, Snapshot};

use super::{
    judge::Matched,
    scan::{Page, Scanner},
};
use crate::error::{Error, Result};

/// Runs read again at once: at first so few that a client who lets wait again has cost little, and then ever more.
const AGAIN: [usize; 2] = [4, 64];

/// Where a run stands among all matches, from 1; 0 if nobody has counted those before it.
pub(crate) type Place = u64;

pub(crate) struct Delivery {
    pending: VecDeque<(RunNumber, Place)>,
    /// As of one snapshot: the first `read` of the pending ones, if they still match.
    page: Option<(Page, usize)>,
    /// The run that took longer than its snapshot lived.
    late: Option<RunNumber>,
    /// Read the next time.
    count: usize,
}

impl Delivery {
    /// Of runs that are still to be read.
    pub(crate) fn of(numbers: impl IntoIterator<Item = (RunNumber, Place)>) -> Self {
        Self { pending: numbers.into_iter().collect(), page: None, late: None, count: AGAIN[1] }
    }

    /// Of runs that were just read.
    pub(crate) fn of_page(page: Page, places: impl IntoIterator<Item = Place>) -> Self {
        let numbers = page.matched.iter().map(|matched| matched.candidate.number);
        let pending: VecDeque<_> = numbers.zip(places).collect();
        Self { page: Some((page, pending.len())), pending, late: None, count: AGAIN[1] }
    }

    /// The next run that matches.
    pub(crate) async fn next(&mut self, scanner: &mut Scanner) -> Result<Option<(Place, Matched)>> {
        while let Some(&(number, place)) = self.pending.front() {
            let Some((page, read)) = self.page.as_mut().filter(|(_, read)| *read > 0) else {
                self.read(scanner).await?;
                continue;
            };
            self.pending.pop_front();
            *read -= 1;
            if let Some(matched) = page.matched.pop_front_if(|matched| matched.candidate.number == number) {
                return Ok(Some((place, matched)));
            }
        }
        Ok(None)
    }

    async fn read(&mut self, scanner: &mut Scanner) -> Result<()> {
        // One that was late already is read alone: to load the others as well may take what a snapshot lives.
        let is_late = |(number, _): &(RunNumber, Place)| Some(*number) == self.late;
        let count = if self.pending.front().is_some_and(is_late) { 1 } else { self.count };
        self.count = AGAIN[1].min(2 * self.count);
        let numbers: Vec<RunNumber> = self.pending.iter().take(count).map(|(number, _)| *number).collect();
        let page = scanner.again(&numbers).await?;
        // Those behind the last one that was read are asked for again; what has gone meanwhile is passed.
        let unread = page.unread.first().and_then(|first| numbers.iter().position(|number| number == first));
        self.page = Some((page, unread.unwrap_or(numbers.len())));
        Ok(())
    }

    /// What the run that `next` gave was read from.
    pub(crate) fn snapshot(&self) -> &dyn Snapshot {
        let (page, _) = self.page.as_ref().expect("a run was given, and nothing forgotten since");
        page.snapshot.as_ref()
    }

    /// Ends the snapshot, because somebody is about to wait.
    pub(crate) fn forget(&mut self) {
        self.page = None;
        self.count = AGAIN[0];
    }

    /// Whether that is the case, and nothing was read since.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.page.is_none()
    }

    /// Takes a run back for which `error` says that its snapshot has ended; once, as a run that takes longer than any
    /// snapshot lives cannot be read.
    pub(crate) fn take_back(&mut self, number: RunNumber, place: Place, error: Error) -> Result<()> {
        match error {
            Error::Store(StoreError::SnapshotTooOld) if self.late != Some(number) => {
                self.late = Some(number);
                self.pending.push_front((number, place));
                self.forget();
                Ok(())
            }
            error => Err(error),
        }
    }
}
