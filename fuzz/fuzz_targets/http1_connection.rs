//! Any octets on a connection: no panic, no end that does not come; and the server is asked for nothing that is forbidden,
//! as a reader of its own reads it.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use prometheus_client::registry::Registry;
use proxy::connection::Proxy;
use proxy::limits::Limits;
use proxy::log::{Ends, Observer, Record};
use proxy::policy::{Head, Policy, Protocols, RuleId, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

struct Rules;

impl Policy for Rules {
    fn generation(&self) -> u64 {
        1
    }

    fn protocols(&self) -> Protocols {
        Protocols { http1: true, http2: true, tls: true }
    }

    fn judge(&self, head: &Head<'_>) -> Verdict {
        if head.method != b"DELETE" && head.path.starts_with(b"/public/") {
            Verdict::Allow { rule: RuleId(1) }
        } else {
            Verdict::Deny { rule: RuleId(2), text: "denied".into() }
        }
    }

    fn judge_name(&self, _: Option<&[u8]>) -> Verdict {
        Verdict::Deny { rule: RuleId(2), text: "denied".into() }
    }

    fn names_header(&self, _: &[u8]) -> bool {
        false
    }
}

struct Nobody;

impl Observer for Nobody {
    fn record(&self, _: &Record<'_>) {}
}

/// Answers whatever comes, and keeps it.
async fn log(mut server: DuplexStream, answer: Vec<u8>) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = server.read(&mut buffer).await {
        got.extend_from_slice(&buffer[..count]);
        if server.write_all(&answer).await.is_err() {
            break;
        }
    }
    got
}

fuzz_target!(|input: (u16, bool, &[u8], &[u8])| {
    let (at, sane, octets, answer) = input;
    let answer =
        if sane { b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec() } else { answer.to_vec() };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let got = runtime.block_on(async {
        let (mut client, near) = tokio::io::duplex(1 << 16);
        let (far, server) = tokio::io::duplex(1 << 16);
        let proxy = Proxy::new(Limits::default(), Arc::new(Nobody), &mut Registry::default());
        let address = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
        let ends = Ends { client: address, server: address };
        let logging = tokio::spawn(log(server, answer));
        let asking = async {
            let (first, second) = octets.split_at(usize::from(at) % (octets.len() + 1));
            for part in [first, second] {
                client.write_all(part).await.ok();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.ok();
            client.read_to_end(&mut Vec::new()).await.ok();
        };
        tokio::join!(asking, proxy.serve(near, ends, &Rules, async { Ok(far) }));
        logging.await.unwrap()
    });
    // The first line of what the server got, and each that follows an empty one, if it has no body to mistake for one.
    if octets.starts_with(b"PRI ")
        || got.windows(8).any(|window| {
            window.eq_ignore_ascii_case(b"\r\nconten") || window.eq_ignore_ascii_case(b"\r\ntransf")
        })
    {
        return;
    }
    for request in heads(&got) {
        let path = request.split(|&octet| octet == b' ').nth(1).unwrap_or_default();
        assert!(path.starts_with(b"/public/") && !request.starts_with(b"DELETE "), "{}", got.escape_ascii());
    }
});

/// The heads of requests without bodies, one after the other.
fn heads(got: &[u8]) -> Vec<&[u8]> {
    let mut heads = Vec::new();
    let mut rest = got;
    while let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
        heads.push(&rest[..end]);
        // What was upgraded is no longer HTTP.
        if rest[..end].windows(9).any(|window| window == b"\r\nupgrade") {
            break;
        }
        rest = &rest[end + 4..];
    }
    heads
}
