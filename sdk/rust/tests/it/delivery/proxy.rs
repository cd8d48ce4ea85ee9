//! A proxy between a run and its server that a test cuts in several ways.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
};

const DELAY: Duration = Duration::from_millis(50);

/// Treatment of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Connections end, and new ones are closed immediately.
    Cut,
    /// Connections stay open, and no byte passes.
    Silence,
    /// The answers of the server end.
    HalfClose,
    /// Every piece arrives late.
    Delay,
}

/// A proxy with an address that stays the same while the server moves.
pub(crate) struct Proxy {
    pub(crate) url: String,
    target: Arc<Mutex<Option<SocketAddr>>>,
    fault: watch::Sender<Fault>,
    attempts: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts without a server.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let target = Arc::new(Mutex::new(None));
        let (fault, faults) = watch::channel(Fault::None);
        let attempts = Arc::new(AtomicUsize::new(0));
        tokio::spawn(accept(listener, target.clone(), faults, attempts.clone()));
        Self { url, target, fault, attempts }
    }

    /// Number of connections that clients have opened, whatever became of them.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Passes connections from now on to the server with this URL.
    pub(crate) fn set_target(&self, url: &str) {
        let address = url.trim_start_matches("http://").parse().expect("a server has an address");
        *self.target.lock().expect("nothing panics with the lock") = Some(address);
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

/// Starts a proxy for tunnels, which all end at one server, and returns its URL and the destinations
/// that clients ask for.
pub(crate) async fn start_tunnels(server: SocketAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://user:secret@{}", listener.local_addr().expect("it is bound"));
    let destinations = Arc::new(Mutex::new(Vec::new()));
    let seen = destinations.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(tunnel(client, server, seen.clone()));
        }
    });
    (url, destinations)
}

async fn tunnel(mut client: TcpStream, server: SocketAddr, destinations: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).expect("a request is text");
    let destination = head.split(' ').nth(1).expect("a request has a destination").to_owned();
    // "user:secret" in base64.
    let is_known = head.to_lowercase().contains("proxy-authorization: basic dxnlcjpzzwnyzxq=");
    let status = if head.starts_with("CONNECT ") && is_known { "200 OK" } else { "407 Who Are You" };
    destinations.lock().expect("nothing panics with the lock").push(destination);
    let response = format!("HTTP/1.1 {status}\r\n\r\n");
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if client.write_all(response.as_bytes()).await.is_ok() && is_known {
        // Either side may end it.
        tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<Mutex<Option<SocketAddr>>>,
    faults: watch::Receiver<Fault>,
    attempts: Arc<AtomicUsize>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        attempts.fetch_add(1, Ordering::Relaxed);
        let target = *target.lock().expect("nothing panics with the lock");
        let Some(target) = target.filter(|_| *faults.borrow() != Fault::Cut) else { continue };
        let faults = faults.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let upwards = pass(from_client, to_server, faults.clone(), false);
            let downwards = pass(from_server, to_client, faults, true);
            tokio::join!(upwards, downwards);
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
    is_downwards: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::None => {}
            Fault::Silence => {
                if faults.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Fault::Cut => return,
            Fault::HalfClose if is_downwards => return,
            Fault::HalfClose | Fault::Delay => {}
        }
        tokio::select! {
            read = from.read(&mut buffer) => {
                if fault == Fault::Delay {
                    tokio::time::sleep(DELAY).await;
                }
                match read {
                    Ok(bytes @ 1..) if to.write_all(&buffer[..bytes]).await.is_ok() => {}
                    _ => return,
                }
            },
            changed = faults.changed() => if changed.is_err() { return },
        }
    }
}
