//! One stream that was allowed: its two bodies pass at the same time, each as fast as its receiver takes it.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http::{Response, StatusCode};

use super::head::StreamHead;
use crate::fault::Fault;
use crate::http1::chunked::may_trail;

/// How a stream ended: with this status, unless it failed.
pub(crate) type End = Result<StatusCode, (Option<StatusCode>, Fault)>;

/// Passes a request on, and its response back.
pub(crate) async fn pass(
    head: &StreamHead,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    upstream: SendRequest<Bytes>,
) -> End {
    let failed = |fault: Fault| (None, fault);
    let request = head.request().map_err(failed)?;
    if head.expects {
        let mut go_on = Response::new(());
        *go_on.status_mut() = StatusCode::CONTINUE;
        respond.send_informational(go_on).map_err(|_| failed(Fault::CLIENT_GONE))?;
    }
    let ended = |_| failed(Fault::UPSTREAM_ENDED);
    let mut upstream = upstream.ready().await.map_err(ended)?;
    let (response, to_upstream) = upstream.send_request(request, body.is_end_stream()).map_err(ended)?;
    let whole = body.is_end_stream();
    let upload = async {
        // What becomes of it shows in the response; a request that was reset is reset behind the proxy, too.
        if !whole {
            copy(body, to_upstream, |_| false).await.ok();
        }
    };
    let download = async {
        let response = match response.await {
            Ok(response) => response,
            Err(error) => {
                let reason = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
                respond.send_reset(reason);
                return Err(failed(Fault::UPSTREAM_ENDED));
            }
        };
        let (mut parts, body) = response.into_parts();
        let status = parts.status;
        for hop in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
            parts.headers.remove(hop);
        }
        let end = body.is_end_stream();
        let to_client = respond.send_response(Response::from_parts(parts, ()), end);
        let to_client = to_client.map_err(|_| (Some(status), Fault::CLIENT_GONE))?;
        if end {
            return Ok(status);
        }
        let forwarded = |name: &str| may_trail(name.as_bytes());
        copy(body, to_client, forwarded).await.map(|()| status).map_err(|fault| (Some(status), fault))
    };
    let mut upload = std::pin::pin!(upload);
    let mut download = std::pin::pin!(download);
    let mut uploading = true;
    // A response may be whole before its request is, and then the rest of the request is of no interest (RFC 9113, 8.1).
    poll_fn(|context| {
        if uploading {
            uploading = upload.as_mut().poll(context).is_pending();
        }
        download.as_mut().poll(context)
    })
    .await
}

/// Passes a body on, with those of its trailers that `trails`.
async fn copy(
    mut from: RecvStream,
    mut to: SendStream<Bytes>,
    trails: impl Fn(&str) -> bool,
) -> Result<(), Fault> {
    loop {
        // Whoever resets what it receives is heard even while nothing is sent.
        let data = poll_fn(|context| match to.poll_reset(context) {
            Poll::Ready(_) => Poll::Ready(Err(Fault::CLIENT_GONE)),
            Poll::Pending => from.poll_data(context).map(Ok),
        });
        match data.await? {
            None => break,
            Some(Ok(data)) => send(data, &mut from, &mut to).await?,
            Some(Err(error)) => {
                to.send_reset(error.reason().unwrap_or(Reason::CANCEL));
                return Err(Fault::UPSTREAM_ENDED);
            }
        }
    }
    let gone = |_| Fault::CLIENT_GONE;
    match from.trailers().await.map_err(|_| Fault::UPSTREAM_ENDED)? {
        None => to.send_data(Bytes::new(), true).map_err(gone),
        Some(trailers) => {
            let kept: HeaderMap = trailers
                .iter()
                .filter(|(name, _)| trails(name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            if kept.is_empty() { to.send_data(Bytes::new(), true) } else { to.send_trailers(kept) }
                .map_err(gone)
        }
    }
}

/// Sends data as its receiver makes room, and then lets the sender have as much again.
async fn send(mut data: Bytes, from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<(), Fault> {
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        let room = match poll_fn(|context| to.poll_capacity(context)).await {
            Some(Ok(room)) => room.min(data.len()),
            Some(Err(_)) | None => return Err(Fault::CLIENT_GONE),
        };
        to.send_data(data.split_to(room), false).map_err(|_| Fault::CLIENT_GONE)?;
        from.flow_control().release_capacity(room).map_err(|_| Fault::UPSTREAM_ENDED)?;
    }
    Ok(())
}
