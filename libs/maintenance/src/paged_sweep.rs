//! The loop that sweeps have in common: page by page until nothing is left or the sweep is stopped, with rests in
//! between, and over the damaged rows of one run, study, tag or experiment to all others.

use tokio_util::sync::CancellationToken;

use crate::{Error, pace::Pace};

/// A sweep that is in progress. Nothing stops the default sweep.
#[derive(Default)]
pub(crate) struct PagedSweep {
    stop: CancellationToken,
    pace: Pace,
    /// The first damage that was found.
    damage: Option<Error>,
}

impl PagedSweep {
    /// Starts a sweep that ends early when the token is cancelled.
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        Self { stop: stop.clone(), ..Self::default() }
    }

    /// Calls `visit` for one page after another, until it returns true for the last one. Returns false if the sweep
    /// was stopped before.
    pub(crate) async fn pages<D>(&mut self, mut visit: impl FnMut() -> D) -> Result<bool, Error>
    where
        D: Future<Output = Result<bool, Error>>,
    {
        while !self.is_stopped() {
            if visit().await? {
                return Ok(true);
            }
            self.rest().await;
        }
        Ok(false)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Rests for as long as the sweep has worked since its last rest.
    pub(crate) async fn rest(&mut self) {
        self.pace.rest().await;
    }

    /// Keeps an error that is damage, so that the sweep continues with the next run, study, tag or experiment. Any
    /// other error ends the sweep.
    pub(crate) fn keep_damage(&mut self, swept: Result<(), Error>) -> Result<(), Error> {
        match swept {
            Err(error @ Error::Store(matyan_store::Error::Corrupt { .. })) => {
                self.damage.get_or_insert(error);
                Ok(())
            }
            swept => swept,
        }
    }

    /// Ends the sweep, with the first damage as its error.
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.damage.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_visited_to_the_last_or_until_the_sweep_is_stopped() {
        let stop = CancellationToken::new();
        let mut sweep = PagedSweep::new(&stop);
        let mut left = 3;
        let mut visit = || {
            left -= 1;
            std::future::ready(Ok(left == 0))
        };
        assert!(sweep.pages(&mut visit).await.unwrap());
        assert_eq!(left, 0);
        stop.cancel();
        assert!(!sweep.pages(|| std::future::ready(Ok(true))).await.unwrap());
    }

    #[test]
    fn damage_is_kept_and_any_other_error_ends_the_sweep() {
        let mut sweep = PagedSweep::default();
        sweep.keep_damage(Ok(())).unwrap();
        sweep.keep_damage(Err(matyan_store::Error::corrupt("row 1").into())).unwrap();
        sweep.keep_damage(Err(matyan_store::Error::corrupt("row 2").into())).unwrap();
        let busy = Error::Busy { job: "job", holder: None };
        sweep.keep_damage(Err(busy)).unwrap_err();
        assert!(sweep.finish().unwrap_err().to_string().contains("row 1"));
    }
}
