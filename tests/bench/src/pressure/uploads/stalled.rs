//! 20,000 uploads that stop after their first bytes, on a server with 4,096 files. They are 200 streams on
//! each of 100 connections of HTTP/2, so that the server decides about uploads, and not about connections. Their
//! clients have ten addresses, because one client gets only a share of the server's limits.

use std::{net::IpAddr, path::Path, pin::pin, sync::Arc, time::Duration};

use futures::future::join_all;
use hyper::{StatusCode, Uri};
use matyan_tests::{
    Server,
    loopback::{address, connect},
    stalled_upload::{Sender, UploadConnection, handshake, request},
};
use tokio::{task::JoinSet, time::timeout};

use super::upload_url;
use crate::pressure::clients::{Begun, Clients, FirstAttempt, Outcomes};

/// Most files of the server, which it cannot raise.
const SERVER_FILES: &str = "4096";

const ADDRESSES: u8 = 10;
const CONNECTIONS_OF_ADDRESS: usize = 10;
/// As many as the server allows.
const STREAMS: usize = 200;
const STALLED: usize = ADDRESSES as usize * CONNECTIONS_OF_ADDRESS * STREAMS;

const ANNOUNCED_BYTES: usize = 1 << 20;

/// Time without an answer after which an upload counts as begun.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time after which an upload begins again that was refused or ended, or whose connection was. The load is made
/// of uploads that are held: a flood of requests would take the processors on which the figures are measured.
const PAUSE: Duration = Duration::from_secs(30);

pub(in crate::pressure) async fn server_of_few_files(directory: &Path) -> Server {
    Server::up_inside(&["sh", "-c", "ulimit -n \"$0\" && exec \"$@\"", SERVER_FILES], directory).await
}

pub(in crate::pressure) async fn start(server: &Server) -> Clients {
    let url = upload_url(server, "stalled").await;
    let outcomes = Arc::new(Outcomes::default());
    let begun = Begun::default();
    let mut tasks = JoinSet::new();
    for number in 0..ADDRESSES {
        for _ in 0..CONNECTIONS_OF_ADDRESS {
            let connection = StalledConnection {
                from: address(number),
                base: server.ingest.clone(),
                uri: url.as_str().parse().expect("a URL is a URI"),
                outcomes: outcomes.clone(),
            };
            let uploads = (0..STREAMS).map(|_| begun.first_attempt()).collect();
            tasks.spawn(connection.stall_repeatedly(uploads));
        }
    }
    begun.wait_for(STALLED).await;
    assert_ne!(outcomes.held(), 0, "the server has refused all uploads");
    Clients::new(tasks, outcomes)
}

/// A connection with stalled uploads, which is made again after the server has ended it.
struct StalledConnection {
    from: IpAddr,
    base: String,
    uri: Uri,
    outcomes: Arc<Outcomes>,
}

impl StalledConnection {
    async fn stall_repeatedly(self, mut uploads: Vec<FirstAttempt>) {
        loop {
            if let Some((sender, connection)) = self.connect().await {
                let mut uploading = Vec::with_capacity(STREAMS);
                for first in &mut uploads {
                    uploading.push(self.upload_repeatedly(sender.clone(), first));
                }
                tokio::select! {
                    _ = connection => {}
                    _ = join_all(uploading) => {}
                }
            }
            self.outcomes.refuse();
            uploads.iter_mut().for_each(FirstAttempt::end);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns `None` if the server refuses the connection.
    async fn connect(&self) -> Option<(Sender, UploadConnection)> {
        let socket = timeout(PAUSE, connect(self.from, &self.base, None)).await.ok()?.ok()?;
        timeout(PAUSE, handshake(socket)).await.ok()?.ok()
    }

    /// Begins an upload, sends nothing more, and begins again after the server has ended it. Returns when the
    /// connection has ended.
    async fn upload_repeatedly(&self, mut sender: Sender, first: &mut FirstAttempt) {
        loop {
            let held = self.outcomes.hold();
            let mut answer = pin!(sender.send_request(request(self.uri.clone(), ANNOUNCED_BYTES)));
            let early = timeout(PATIENCE, &mut answer).await;
            first.end();
            let answered = match early {
                Ok(answered) => answered,
                Err(_) => answer.await,
            };
            drop(held);
            let Ok(answered) = answered else { return };
            self.outcomes.refuse();
            assert_ne!(answered.status(), StatusCode::INTERNAL_SERVER_ERROR);
            tokio::time::sleep(PAUSE).await;
        }
    }
}
