//! What is told over HTTP on a Unix socket: metrics, and requests as they end. No address leads into the worker's network
//! namespace.

use std::sync::Arc;

use pages::{Answers, Page, Status};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use proxy_api::{METRICS, NOTABLE, PLAIN};

use super::streams::{Kind, Streams};

/// What the worker has to say.
pub(crate) struct Told {
    /// What is measured.
    pub(crate) registry: Registry,
    /// Requests.
    pub(crate) streams: Arc<Streams>,
}

impl Answers for Told {
    async fn page(&self, path: &str) -> Page {
        let kind = match path {
            METRICS => {
                let mut text = String::new();
                return Page::metrics(encode(&mut text, &self.registry).map(|()| text));
            }
            NOTABLE => Kind::Notable,
            PLAIN => Kind::Plain,
            _ => {
                let there = format!("there is {METRICS}, {NOTABLE} and {PLAIN}\n");
                return Page::text(Status::NOT_FOUND, there);
            }
        };
        match self.streams.read(kind) {
            Some(lines) => Page::lines(lines),
            None => Page::text(Status::SERVICE_UNAVAILABLE, "too many read already\n".to_owned()),
        }
    }
}
