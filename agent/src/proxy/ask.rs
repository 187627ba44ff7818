//! One question to a proxy: HTTP on its socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a proxy may take to begin an answer, and for a whole page.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest page, in bytes.
const PAGE: usize = 1 << 20;

/// The metrics of the proxy that takes what begins, in the text form of `OpenMetrics`.
///
/// # Errors
///
/// Nobody listens there, or does not answer in time, or with something else.
pub async fn metrics(socket: &Path) -> Result<String> {
    let body = Limited::new(get(socket, proxy_api::METRICS).await?, PAGE);
    let whole = timeout(PATIENCE, body.collect()).await.context("a page that does not end")?;
    let whole = whole.map_err(|error| anyhow::anyhow!(error)).context("reading a page")?;
    String::from_utf8(whole.to_bytes().into()).context("a page")
}

/// The answer to a question, as it comes. Ends with what reads it.
pub(super) async fn get(socket: &Path, target: &str) -> Result<Incoming> {
    let asked = async {
        let stream = UnixStream::connect(socket).await.context("connecting")?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.context("beginning")?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a proxy");
            }
        });
        let request = Request::get(target).header(HOST, "proxy").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await.context("asking")?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "GET {target}: found {status}; expected 200");
        Ok(response.into_body())
    };
    timeout(PATIENCE, asked).await.context("no answer in time")?
}
