//! The task of the I/O thread that sends one spool.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time};

#[cfg(feature = "grpc")]
use crate::sender::grpc;
use crate::{
    notice::{NoticeLevel, OUTAGE_NOTICE},
    plain_text::plain_line,
    sender::{
        backoff::Backoff,
        binary,
        connection::{self, Connection},
        deleted_run,
        dialer::Dialer,
        exchange, first_line,
        link::LinkEnd,
        outbox::Outbox,
        stop_and_wait,
    },
    spool::store::Spool,
    supervision::restarted,
    upload::worker,
};

/// Time in which nothing is stored after which a notice says so.
const REPORTED_OUTAGE: Duration = Duration::from_secs(30);
/// Interval between attempts to read or write files that fail.
const FILE_RETRY: Duration = Duration::from_secs(1);

/// Sends a spool until it is closed and stored, then removes it. Starts over after a panic, which loses nothing: the journal
/// says what was sent, and what is not acknowledged is sent again.
pub(crate) async fn run(spool: Arc<Spool>, dialer: Dialer, uploads: impl Fn() -> usize) {
    let uploads = &uploads;
    let begin = || send(spool.clone(), dialer.clone(), uploads);
    restarted(&spool, "the sender", || spool.is_usable(), |reason| fail(&spool, reason), begin).await;
    // The spool may have been stored and removed before a panic.
    spool.progress.update(|delivery| delivery.is_finished = true);
}

async fn send(spool: Arc<Spool>, dialer: Dialer, uploads: impl Fn() -> usize) {
    let mut outbox = open(&spool).await;
    let mut backoff = Backoff::default();
    // The helpers end when this returns or panics.
    let mut helpers = JoinSet::new();
    if outbox.needs_first_line() {
        // Only terminal lines wait for the answer.
        helpers.spawn_local(learn_first_line(spool.clone()));
    }
    helpers.spawn_local(watch_for_deletion(spool.clone()));
    loop {
        // A connection is only opened for something to send.
        if let Err(error) = outbox.cut_first() {
            fail(&spool, &format!("failed to write the journal: {error}"));
            time::sleep(FILE_RETRY).await;
            continue;
        }
        if outbox.is_empty() {
            if outbox.is_finished(&uploads)
                && spool.remove(outbox.read_position(), |uploads| worker::pending_in(uploads).is_empty())
            {
                break;
            }
            wait_for_records(&spool, &outbox).await;
            continue;
        }
        attempt(&spool, &mut outbox, &dialer, &uploads, &mut backoff).await;
    }
    drop(helpers);
    deleted_run::check_at_end(&spool).await;
    spool.progress.update(|delivery| (delivery.is_finished, delivery.is_connected) = (true, false));
}

async fn learn_first_line(spool: Arc<Spool>) {
    let begin = || first_line::learn(spool.clone());
    restarted(&spool, "the search for the last terminal line", || spool.is_usable(), |_| (), begin).await;
}

async fn watch_for_deletion(spool: Arc<Spool>) {
    let begin = || deleted_run::watch(&spool, deleted_run::EXAMINATION);
    restarted(&spool, "the watch for a deletion of the run", || spool.is_usable(), |_| (), begin).await;
}

/// Opens the journal. While that fails, nothing can be sent, and nothing is lost either.
async fn open(spool: &Arc<Spool>) -> Outbox {
    loop {
        match Outbox::open(spool.clone()) {
            Ok(outbox) => return outbox,
            Err(error) => fail(spool, &format!("failed to read the spool: {error}")),
        }
        time::sleep(FILE_RETRY).await;
    }
}

async fn wait_for_records(spool: &Spool, outbox: &Outbox) {
    let is_asleep = spool.with_writer(|writer| writer.sleep_sender(outbox.read_position()));
    let limit = if is_asleep {
        // The spool may have been closed before the sender slept, or an upload may end after that.
        FILE_RETRY
    } else if outbox.needs_first_line() {
        // A terminal line is next.
        exchange::PACE
    } else {
        return;
    };
    let _woken = time::timeout(limit, spool.sender_wake.notified()).await;
}

/// Connects, and sends until the connection ends. Pauses after a failure.
async fn attempt(
    spool: &Spool,
    outbox: &mut Outbox,
    dialer: &Dialer,
    uploads: &impl Fn() -> usize,
    backoff: &mut Backoff,
) {
    let owner = spool.owner();
    // Noted before the attempt: a server may accept the connection and stay silent until the attempt times out.
    spool.progress.update(|delivery| {
        let now = Instant::now();
        delivery.stalled_since.get_or_insert(now);
        if !delivery.is_connected {
            delivery.disconnected_at.get_or_insert(now);
        }
    });
    let connection = match connection::connect(&owner.gateway_url, &owner.run_id, dialer).await {
        Ok(connection) => connection,
        Err(error) => {
            fail(spool, &error.to_string());
            report_outage(spool, &error.to_string(), error.needs_correction());
            return spool.progress.pause(backoff.next_pause()).await;
        }
    };
    spool.progress.update(|delivery| {
        delivery.is_connected = true;
        delivery.disconnected_at = None;
    });
    let (end, progressed) = match connection {
        Connection::Binary(socket) => exchange::run(binary::split(socket), outbox, uploads).await,
        Connection::Json(socket) => stop_and_wait::run(socket, outbox, uploads).await,
        #[cfg(feature = "grpc")]
        Connection::Grpc(gateway) => exchange::run(grpc::open(gateway), outbox, uploads).await,
    };
    if progressed {
        backoff.reset();
    }
    match end {
        LinkEnd::Finished => return,
        LinkEnd::Lost(reason) => {
            fail(spool, &reason);
            report_outage(spool, &reason, false);
        }
        LinkEnd::Journal(reason) => fail(spool, &reason),
        LinkEnd::NeedsCorrection(reason) => {
            fail(spool, &reason);
            report_outage(spool, &reason, true);
        }
        LinkEnd::Refused(reason) => {
            let message = format!("{reason}; continuing as a new producer, some data may be stored twice");
            spool.notices.push(NoticeLevel::Error, message);
            match outbox.replace_producer() {
                Ok(()) => fail(spool, &reason),
                Err(error) => fail(spool, &format!("failed to change the producer: {error}")),
            }
        }
    }
    spool.progress.pause(backoff.next_pause()).await;
}

fn fail(spool: &Spool, reason: &str) {
    spool.progress.update(|delivery| {
        delivery.is_connected = false;
        delivery.disconnected_at.get_or_insert_with(Instant::now);
        delivery.last_error = Some(plain_line(reason));
    });
}

/// Reports once that the server stores nothing: at once if that needs a correction, and otherwise when it has been so for a
/// while. A connection that is made and lost again does not restart the period.
fn report_outage(spool: &Spool, reason: &str, needs_correction: bool) {
    let mut is_due = false;
    spool.progress.update(|delivery| {
        let is_long = delivery.stalled_since.is_some_and(|since| since.elapsed() >= REPORTED_OUTAGE);
        is_due = !delivery.is_outage_reported && (is_long || needs_correction);
        delivery.is_outage_reported |= is_due;
    });
    if is_due {
        let path = spool.path();
        let message = format!("{OUTAGE_NOTICE}{}: {reason}", path.display());
        spool.notices.push(NoticeLevel::Warning, message);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use tempfile::TempDir;
    use tokio::{net::TcpListener, task::LocalSet};

    use super::*;
    use crate::{notice::Notices, spool::test_spool::spool_in};

    #[tokio::test]
    async fn a_sender_that_panics_is_reported_and_starts_again() {
        let root = TempDir::new().unwrap();
        let notices = Notices::default();
        let spool = Arc::new(spool_in(&root, "http://127.0.0.1:1", &notices));
        spool.close();
        let has_failed = Rc::new(Cell::new(false));
        let uploads = move || {
            assert!(has_failed.replace(true), "the first attempt fails");
            0
        };
        LocalSet::new().run_until(run(spool.clone(), Dialer::default(), uploads)).await;
        assert!(spool.progress.delivery().is_finished);
        let found = notices.take();
        let is_named =
            |message: &str| message.contains("starts again") && message.contains("the first attempt fails");
        assert!(found.iter().any(|notice| is_named(&notice.message)), "{found:?}");
    }

    #[tokio::test]
    async fn an_outage_begins_with_the_first_attempt() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let root = TempDir::new().unwrap();
        let spool = Arc::new(spool_in(&root, &url, &Notices::default()));
        assert!(spool.append_event(1, 0, &[8; 100]));
        let sending = run(spool.clone(), Dialer::default(), || 0);
        let until_accepted = async {
            tokio::select! {
                () = sending => panic!("nothing can be stored"),
                accepted = silent.accept() => accepted.unwrap(),
            }
        };
        let _silent = LocalSet::new().run_until(until_accepted).await;
        assert!(spool.progress.delivery().disconnected_at.is_some());
    }

    #[test]
    fn an_outage_is_reported_once_and_at_once_only_if_it_needs_a_correction() {
        for (outage, needs_correction, reported) in [
            (Duration::ZERO, false, 0),
            (REPORTED_OUTAGE - Duration::from_secs(10), false, 0),
            (REPORTED_OUTAGE, false, 1),
            (Duration::ZERO, true, 1),
        ] {
            let root = TempDir::new().unwrap();
            let notices = Notices::default();
            let spool = spool_in(&root, "http://127.0.0.1:1", &notices);
            fail(&spool, "refused");
            spool.progress.update(|delivery| {
                delivery.stalled_since = Instant::now().checked_sub(outage);
                // As after a handshake, whose connection is lost again.
                delivery.disconnected_at = None;
            });
            for _ in 0..2 {
                report_outage(&spool, "refused", needs_correction);
            }
            let found = notices.take();
            let outages = found.iter().filter(|notice| notice.message.starts_with(OUTAGE_NOTICE));
            assert_eq!(outages.count(), reported, "{outage:?}: {found:?}");
        }
    }
}
