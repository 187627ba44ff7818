//! Three pages over HTTP: `/metrics`, `/healthz`, `/readyz`.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{Health, Metrics};

/// Where it listens if nothing else is said: nobody outside the node needs to know.
pub const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9469));

/// How many connections there are at a time; more wait to be accepted.
const CONNECTIONS: usize = 16;

/// How long one connection lasts, whatever happens: one page each.
const PATIENCE: Duration = Duration::from_secs(10);

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Listens for [`serve`].
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

/// Serves for ever.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, health: Arc<Health>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (metrics, health) = (Arc::clone(&metrics), Arc::clone(&health));
                tokio::spawn(async move {
                    connection(stream, &metrics, &health).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Most likely no file descriptor is left: trying again at once would only burn time.
                tracing::warn!(%error, "accepting a connection for metrics");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, metrics: &Metrics, health: &Health) {
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), metrics, health))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics"),
        Err(_) => tracing::debug!("a connection for metrics took too long"),
    }
}

fn answer(method: &Method, path: &str, metrics: &Metrics, health: &Health) -> Response<String> {
    let (status, kind, text) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/metrics") => match metrics.text() {
            Ok(text) => (StatusCode::OK, OPEN_METRICS, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("writing metrics: {error}\n")),
        },
        (&Method::GET | &Method::HEAD, "/healthz") => match health.alive() {
            Ok(()) => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, reason + "\n"),
        },
        (&Method::GET | &Method::HEAD, "/readyz") => match health.ready() {
            Ok(()) => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, reasons.join("\n") + "\n"),
        },
        (&Method::GET | &Method::HEAD, _) => {
            let text = "there is /metrics, /healthz and /readyz\n";
            (StatusCode::NOT_FOUND, PLAIN, text.to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "expected GET or HEAD\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    use tokio::task::spawn_blocking;

    use super::*;

    async fn get(address: SocketAddr, request: &'static str) -> String {
        spawn_blocking(move || {
            let mut stream = Client::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).unwrap();
            page
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn metrics_health_and_readiness_are_served() {
        let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(Health::default()));
        assert!(ADDRESS.ip().is_loopback());
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::clone(&metrics), Arc::clone(&health)));
        metrics.map_writes.inc_by(12);
        let page = get(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/openmetrics-text"), "{page}");
        assert!(page.contains("\npolder_map_writes_total 12\n"), "{page}");
        assert!(get(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.ends_with("\r\n\r\nok\n"));
        let page = get(address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 503") && page.ends_with("not compiled yet\n"), "{page}");
        health.set_reasons(Vec::new());
        assert!(get(address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(get(address, "POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
    }
}
