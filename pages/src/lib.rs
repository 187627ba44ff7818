//! Pages over HTTP, for who asks from this machine or this node: metrics, health, streams of lines.
//!
//! ```text
//! listener ──> serve ──path──> the program's own answers ──Page──> text, or lines without an end
//! ```
//!
//! Who asks is a program such as Prometheus or kubelet, and may be stuck: connections are bounded in number, and in time unless
//! their answer has no end.
#![forbid(unsafe_code)]

mod listen;
mod page;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

pub use hyper::StatusCode as Status;
pub use listen::Listen;
pub use page::Page;

/// How many connections there are at a time; more wait to be accepted.
pub const CONNECTIONS: usize = 16;

/// How long a connection lasts, whatever happens, unless its answer has no end: one page each.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a program has to say.
pub trait Answers: Send + Sync + 'static {
    /// The page of a path.
    fn page(&self, path: &str) -> impl Future<Output = Page> + Send;
}

/// Serves for ever.
pub async fn serve<L: Listen>(listener: L, answers: Arc<impl Answers>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    connection::<L>(stream, &*answers).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Most likely no file descriptor is left: trying again at once would only burn time.
                tracing::warn!(%error, "accepting a connection for a page");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection<L: Listen>(stream: L::Stream, answers: &impl Answers) {
    let is_endless = AtomicBool::new(false);
    let service = service_fn(async |request: Request<Incoming>| {
        let page = match *request.method() {
            Method::GET | Method::HEAD => answers.page(request.uri().path()).await,
            _ => Page::text(StatusCode::METHOD_NOT_ALLOWED, "expected GET or HEAD\n".to_owned()),
        };
        is_endless.store(page.is_endless(), Ordering::Relaxed);
        Ok::<_, Infallible>(page.into_response())
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let result = match timeout(PATIENCE, &mut served).await {
        Ok(result) => result,
        Err(_) if is_endless.load(Ordering::Relaxed) => served.await,
        Err(_) => return tracing::debug!("a connection for a page took too long"),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection for a page");
    }
}

#[cfg(test)]
mod tests;
