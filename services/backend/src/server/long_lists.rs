//! Turns of calls that read the series of runs that have many. A list of 200,000 series takes about 75 MB, and a second to
//! read, so few calls read one at a time. Otherwise calls at the same time would fill the memory, and none of them would
//! end before its snapshot is too old.

use std::time::Duration;

use matyan_access::{CallClient, Refusal, ShareLimit, SharePermit};

use super::error::{Error, Result};

/// Long lists that are read at a time. One client may read one.
const LISTS: usize = 2;

/// Longest time for which a call waits until others have read their lists.
const WAIT: Duration = Duration::from_secs(60);

/// The calls that read long lists. Clones share their state.
#[derive(Clone)]
pub(crate) struct LongLists(ShareLimit<CallClient>);

/// The turn of a call that reads a long list.
pub(crate) type LongListTurn = SharePermit<CallClient>;

impl Default for LongLists {
    fn default() -> Self {
        Self(ShareLimit::new("long lists of series", LISTS))
    }
}

impl LongLists {
    /// Waits for the turn of a call of this client.
    pub(crate) async fn turn(&self, client: Option<CallClient>) -> Result<LongListTurn> {
        self.0.admit_many_within(WAIT, client, 1).await.map_err(|refusal| {
            Error::Waiting(match refusal {
                Refusal::Full => "other calls are reading runs with many series",
                Refusal::ClientFull => "your other calls are reading runs with many series",
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rule_45_one_client_leaves_a_turn_to_others() {
        let lists = LongLists::default();
        let [one, other] = ["one", "other"].map(|name| Some(CallClient::new(name)));
        let first = lists.turn(one.clone()).await.unwrap();
        let refused = lists.turn(one.clone()).await.err().unwrap().to_string();
        assert!(refused.contains("your other calls"), "{refused}");
        let second = lists.turn(other.clone()).await.unwrap();
        let refused = lists.turn(None).await.err().unwrap().to_string();
        assert!(refused.contains("other calls"), "{refused}");
        let mut waiting = Box::pin(lists.turn(one));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(second);
        assert!(waiting.as_mut().now_or_never().is_none(), "the client still has its turn");
        drop(first);
        waiting.await.unwrap();
    }
}
