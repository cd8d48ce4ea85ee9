//! The clients of a load, which repeat what they do until they are stopped.

use std::{
    fmt::{self, Display},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use matyan_tests::{Server, eventually, loopback::address};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::search::Client;

/// The address from which the clients of a load connect, unless they need several.
pub(super) const ADDRESS: IpAddr = address(0);

/// Time between an attempt that the server refused and the next. Clients that ask again at once would take the
/// processors on which the figures are measured.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Clients {
    tasks: JoinSet<()>,
    outcomes: Arc<Outcomes>,
}

impl Clients {
    pub(super) fn new(tasks: JoinSet<()>, outcomes: Arc<Outcomes>) -> Self {
        Self { tasks, outcomes }
    }

    /// Stops the clients, and fails if one has ended by itself. Returns what they have achieved.
    pub(super) async fn stop(mut self) -> String {
        assert!(self.tasks.try_join_next().is_none(), "a client of the load ends only when it is stopped");
        let achieved = self.outcomes.to_string();
        self.tasks.shutdown().await;
        achieved
    }
}

/// The outcomes of the attempts of the clients.
#[derive(Default)]
pub(super) struct Outcomes {
    /// Attempts that the server has neither refused nor ended.
    held: AtomicUsize,
    accepted: AtomicUsize,
    refused: AtomicUsize,
}

impl Outcomes {
    /// An attempt that the server holds until the returned value is dropped.
    pub(super) fn hold(&self) -> HeldAttempt<'_> {
        self.held.fetch_add(1, Ordering::Relaxed);
        HeldAttempt(self)
    }

    /// The number of attempts that the server holds now.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The number of attempts that the server has accepted.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Display for Outcomes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [held, accepted, refused] =
            [&self.held, &self.accepted, &self.refused].map(|count| count.load(Ordering::Relaxed));
        write!(formatter, "at the end {held} in progress; {accepted} accepted, {refused} refused or ended")
    }
}

pub(super) struct HeldAttempt<'a>(&'a Outcomes);

impl Drop for HeldAttempt<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of clients of a load that have begun to work.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<AtomicUsize>);

impl Begun {
    /// The first attempt of another client.
    pub(super) fn first_attempt(&self) -> FirstAttempt {
        FirstAttempt(Some(self.clone()))
    }

    /// Waits until so many clients have begun.
    pub(super) async fn wait_for(&self, clients: usize) {
        eventually("the clients have begun", async || match self.count() {
            enough if enough >= clients => Ok(()),
            few => Err(few),
        })
        .await;
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The first attempt of a client. Its later attempts do not count: a quick client that has tried twenty times
/// does not stand for twenty clients.
pub(super) struct FirstAttempt(Option<Begun>);

impl FirstAttempt {
    /// Counts the client, at the first call.
    pub(super) fn end(&mut self) {
        if let Some(begun) = self.0.take() {
            begun.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A gRPC client that connects from the address of the load.
pub(super) async fn search_client(server: &Server) -> Client {
    let endpoint = Channel::from_shared(server.query.clone()).expect("the base is a URL");
    let channel = endpoint.local_address(Some(ADDRESS)).connect().await.expect("the server listens");
    Client::new(channel).max_decoding_message_size(usize::MAX)
}

/// An HTTP client that connects from the address of the load, once for each request: the server may end an
/// idle connection just as it would be used again.
pub(super) fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .local_address(ADDRESS)
        .pool_max_idle_per_host(0)
        .build()
        .expect("the settings are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_counts_once_however_often_it_tries() {
        let begun = Begun::default();
        let mut quick = begun.first_attempt();
        let mut slow = begun.first_attempt();
        for _ in 0..20 {
            quick.end();
        }
        assert_eq!(begun.count(), 1);
        slow.end();
        assert_eq!(begun.count(), 2);
    }
}
