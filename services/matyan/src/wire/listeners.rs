//! The ports, bound before anything else is started, so that a port in use is reported first.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::TcpListener;

use super::Error;
use crate::settings::{ListenSettings, Settings};

pub(crate) struct Listeners {
    pub(crate) query: Option<Listener>,
    pub(crate) ingest: Option<Listener>,
    /// Port of a worker, which has neither of the other ports.
    pub(crate) metrics: Option<Listener>,
}

pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// The bound address: a requested port 0 is replaced by the assigned port.
    pub(crate) address: SocketAddr,
}

impl Listeners {
    pub(crate) async fn bind(settings: &Settings) -> Result<Self, Error> {
        let Settings { role, listen, .. } = settings;
        let ListenSettings { host, port, frontier_port, metrics_port, .. } = listen;
        let frontier_flag = if role.has_backend() { "--frontier-port" } else { "--port" };
        Ok(Self {
            query: bind(role.has_backend(), *host, *port, "--port").await?,
            ingest: bind(role.has_frontier(), *host, *frontier_port, frontier_flag).await?,
            // Only this port can be disabled: by 0, as in Matyan 0.3.
            metrics: bind(role.is_worker() && *metrics_port > 0, *host, *metrics_port, "--metrics-port")
                .await?,
        })
    }

    pub(crate) fn query_address(&self) -> Option<SocketAddr> {
        self.query.as_ref().map(|listener| listener.address)
    }

    pub(crate) fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|listener| listener.address)
    }

    pub(crate) fn ingest_address(&self) -> Option<SocketAddr> {
        self.ingest.as_ref().map(|listener| listener.address)
    }
}

async fn bind(wanted: bool, host: IpAddr, port: u16, flag: &'static str) -> Result<Option<Listener>, Error> {
    if !wanted {
        return Ok(None);
    }
    let address = SocketAddr::new(host, port);
    let bound = async {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        io::Result::Ok(Listener { socket, address })
    };
    bound.await.map(Some).map_err(|source| Error::Bind { address, flag, source })
}
