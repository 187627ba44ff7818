//! One answer.

use std::convert::Infallible;
use std::fmt;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON_LINES: HeaderValue = HeaderValue::from_static("application/jsonl");

/// What is answered.
pub struct Page {
    status: StatusCode,
    kind: HeaderValue,
    body: UnsyncBoxBody<Bytes, Infallible>,
    is_endless: bool,
}

impl Page {
    /// Plain text.
    pub fn text(status: StatusCode, text: String) -> Self {
        Self::whole(status, PLAIN, text)
    }

    /// Metrics in the text form of `OpenMetrics`, or why there are none.
    pub fn metrics(metrics: Result<String, fmt::Error>) -> Self {
        match metrics {
            Ok(text) => Self::whole(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => {
                Self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("writing metrics: {error}\n"))
            }
        }
    }

    /// Lines of JSON as they come, one or several at a time.
    pub fn lines(lines: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        let frames = lines.map(|lines| Ok(Frame::data(lines)));
        let body = StreamBody::new(frames).boxed_unsync();
        Self { status: StatusCode::OK, kind: JSON_LINES, body, is_endless: true }
    }

    fn whole(status: StatusCode, kind: HeaderValue, text: String) -> Self {
        Self { status, kind, body: Full::from(text).boxed_unsync(), is_endless: false }
    }

    pub(crate) const fn is_endless(&self) -> bool {
        self.is_endless
    }

    pub(crate) fn into_response(self) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, self.kind);
        response
    }
}
