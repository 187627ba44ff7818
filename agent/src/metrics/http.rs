//! Three pages over HTTP: `/metrics`, `/healthz`, `/readyz`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use pages::{Answers, Page, Status};
use tokio::net::TcpListener;

use super::{Health, Metrics};
use crate::proxy::ask;

/// Where it listens if nothing else is said: nobody outside the node needs to know.
pub const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9469));

/// The last line of metrics.
const END: &str = "# EOF\n";

/// Listens for [`pages::serve`].
///
/// # Errors
///
/// The address is taken, or not this machine's.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "metrics are served to whoever reaches this address");
    }
    TcpListener::bind(address).await.with_context(|| format!("serving metrics at {address}"))
}

/// What the agent has to say.
#[derive(Debug)]
pub struct Told {
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// Its health.
    pub health: Arc<Health>,
    /// The socket of a proxy beside it, whose metrics are told with its own.
    pub proxy: PathBuf,
}

impl Answers for Told {
    async fn page(&self, path: &str) -> Page {
        match path {
            "/metrics" => Page::metrics(self.all_metrics().await),
            "/healthz" => state(self.health.alive()),
            "/readyz" => state(self.health.ready().map_err(|reasons| reasons.join("\n"))),
            _ => Page::text(Status::NOT_FOUND, "there is /metrics, /healthz and /readyz\n".to_owned()),
        }
    }
}

impl Told {
    /// The agent's own and the proxy's, whose names differ (`polder_l7_...`).
    async fn all_metrics(&self) -> Result<String, fmt::Error> {
        let theirs = ask::metrics(&self.proxy).await.inspect_err(|error| {
            tracing::debug!(error = format!("{error:#}"), "metrics of a proxy");
        });
        let theirs = theirs.ok().filter(|theirs| theirs.ends_with(END));
        self.metrics.proxy_up.set(i64::from(theirs.is_some()));
        let ours = self.metrics.text()?;
        Ok(match theirs {
            Some(theirs) => ours.strip_suffix(END).unwrap_or(&ours).to_owned() + &theirs,
            None => ours,
        })
    }
}

fn state(state: Result<(), String>) -> Page {
    match state {
        Ok(()) => Page::text(Status::OK, "ok\n".to_owned()),
        Err(reason) => Page::text(Status::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    use tokio::net::UnixListener;
    use tokio::task::spawn_blocking;

    use super::*;

    /// A proxy that says this.
    struct Proxy(&'static str);

    impl Answers for Proxy {
        async fn page(&self, _: &str) -> Page {
            Page::metrics(Ok(self.0.to_owned()))
        }
    }

    async fn get(address: SocketAddr, path: &'static str) -> String {
        spawn_blocking(move || {
            let mut stream = Client::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).unwrap();
            page
        })
        .await
        .unwrap()
    }

    /// An agent beside a proxy's socket, if there is one.
    async fn serve(proxy: PathBuf) -> (SocketAddr, Arc<Metrics>, Arc<Health>) {
        let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(Health::default()));
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let told = Told { metrics: Arc::clone(&metrics), health: Arc::clone(&health), proxy };
        tokio::spawn(pages::serve(listener, Arc::new(told)));
        (address, metrics, health)
    }

    #[tokio::test]
    async fn metrics_health_and_readiness_are_served() {
        assert!(ADDRESS.ip().is_loopback());
        let folder = tempfile::tempdir().unwrap();
        let (address, metrics, health) = serve(folder.path().join("nobody")).await;
        metrics.map_writes.inc_by(12);
        let page = get(address, "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/openmetrics-text"), "{page}");
        assert!(page.contains("\npolder_map_writes_total 12\n"), "{page}");
        assert!(get(address, "/healthz").await.ends_with("\r\n\r\nok\n"));
        let page = get(address, "/readyz").await;
        assert!(page.starts_with("HTTP/1.1 503") && page.ends_with("not compiled yet\n"), "{page}");
        health.set_reasons(Vec::new());
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_proxys_metrics_are_on_the_same_page_while_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("proxy.sock");
        let (address, ..) = serve(socket.clone()).await;
        let page = get(address, "/metrics").await;
        assert!(page.contains("\npolder_proxy_up 0\n") && page.ends_with(END), "{page}");
        let whole = "# TYPE polder_l7_x counter\npolder_l7_x_total 3\n# EOF\n";
        let listener = UnixListener::bind(&socket).unwrap();
        let proxy = tokio::spawn(pages::serve(listener, Arc::new(Proxy(whole))));
        let page = get(address, "/metrics").await;
        assert!(page.contains("\npolder_proxy_up 1\n") && page.ends_with(whole), "{page}");
        assert_eq!(page.matches(END).count(), 1);
        proxy.abort();
        std::fs::remove_file(&socket).unwrap();
        tokio::spawn(pages::serve(UnixListener::bind(&socket).unwrap(), Arc::new(Proxy("half"))));
        let page = get(address, "/metrics").await;
        assert!(page.contains("\npolder_proxy_up 0\n") && !page.contains("half"), "{page}");
    }
}
