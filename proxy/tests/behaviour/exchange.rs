//! Requests and responses on one connection: order, bodies, upgrades, changes of policy, and what servers do wrong.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proxy::fault::Fault;
use proxy::limits::Limits;
use proxy::log::{Outcome, Protocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::rig::{ALLOWS, DENIES, Keeper, Kept, Rules, ends, proxy};

const GET: &[u8] = b"GET /public/a HTTP/1.1\r\nHost: good\r\n\r\n";
const GOT: &str = "GET /public/a HTTP/1.1\r\nhost: good\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A client and a server with a proxy between them.
struct Line {
    client: DuplexStream,
    server: DuplexStream,
    rules: Arc<Rules>,
    keeper: Arc<Keeper>,
    proxy: JoinHandle<()>,
}

impl Line {
    fn new() -> Self {
        Line::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let (client, near) = tokio::io::duplex(1 << 20);
        let (far, server) = tokio::io::duplex(1 << 16);
        let (proxy, keeper) = proxy(limits);
        let rules = Arc::new(Rules::http1());
        let policy = Arc::clone(&rules);
        let proxy = tokio::spawn(async move { proxy.serve(near, ends(), &*policy, async { Ok(far) }).await });
        Line { client, server, rules, keeper, proxy }
    }

    async fn ask(&mut self, octets: impl AsRef<[u8]>) {
        self.client.write_all(octets.as_ref()).await.unwrap();
    }

    async fn answer(&mut self, octets: impl AsRef<[u8]>) {
        self.server.write_all(octets.as_ref()).await.unwrap();
    }

    /// The server gets exactly this, now.
    async fn server_gets(&mut self, expected: &str) {
        assert_eq!(read(&mut self.server, expected.len()).await, expected);
    }

    /// The client gets exactly this, now.
    async fn client_gets(&mut self, expected: &str) {
        assert_eq!(read(&mut self.client, expected.len()).await, expected);
    }

    /// What else the client gets until the connection ends.
    async fn rest(mut self) -> (String, Vec<Kept>) {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = self.client.read_to_end(&mut rest).await;
        drop(self.client);
        self.proxy.await.unwrap();
        (String::from_utf8(rest).unwrap(), self.keeper.take())
    }

    /// The status of the last response, behind which the connection ends, and how the last request came out.
    async fn refusal(self) -> (u16, Outcome) {
        let (rest, records) = self.rest().await;
        let status = rest.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        (status.unwrap_or_else(|| panic!("{rest:?} is no response")), records.last().unwrap().outcome)
    }
}

async fn read(stream: &mut DuplexStream, length: usize) -> String {
    let mut octets = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match tokio::time::timeout(Duration::from_millis(10), stream.read(&mut octets[filled..])).await {
            Ok(Ok(count @ 1..)) => filled += count,
            _ => break,
        }
    }
    octets.truncate(filled);
    String::from_utf8_lossy(&octets).into_owned()
}

fn allowed(request: &str, status: u16) -> Kept {
    let request = request.to_owned();
    Kept { protocol: Protocol::Http1, request, status: Some(status), outcome: Outcome::Allowed(ALLOWS) }
}

#[tokio::test(start_paused = true)]
async fn a_pipelined_request_waits_for_the_response_before_it() {
    let mut line = Line::new();
    line.ask([GET, GET, b"GET /admin HTTP/1.1\r\nHost: good\r\n\r\n"].concat()).await;
    line.server_gets(GOT).await;
    assert_eq!(read(&mut line.server, 1).await, "");
    line.answer(&OK[..OK.len() - 1]).await;
    assert_eq!(read(&mut line.server, 1).await, "");
    line.answer("k").await;
    line.server_gets(GOT).await;
    line.answer(OK).await;
    line.client_gets(&OK.repeat(2)).await;
    assert_eq!(read(&mut line.server, 1).await, "");
    let (rest, records) = line.rest().await;
    assert!(rest.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{rest}");
    assert!(rest.ends_with("Connection: close\r\n\r\ndenied by policy\n"), "{rest}");
    let denied = Kept {
        protocol: Protocol::Http1,
        request: "GET good/admin".to_owned(),
        status: Some(403),
        outcome: Outcome::Denied(DENIES),
    };
    let one = allowed("GET good/public/a", 200);
    assert_eq!(records, [one.clone(), one, denied]);
}

#[tokio::test(start_paused = true)]
async fn a_query_is_forwarded_and_never_recorded() {
    let mut line = Line::new();
    line.ask("GET /public/a?token=secret HTTP/1.1\r\nHost: good\r\nConnection: close\r\n\r\n").await;
    line.server_gets("GET /public/a?token=secret HTTP/1.1\r\nhost: good\r\nconnection: close\r\n\r\n").await;
    line.answer(OK).await;
    let (_, records) = line.rest().await;
    assert_eq!(records, [allowed("GET good/public/a", 200)]);
}

#[tokio::test(start_paused = true)]
async fn the_next_request_obeys_new_rules_and_the_response_under_way_is_not_cut() {
    let mut line = Line::new();
    line.ask(GET).await;
    line.server_gets(GOT).await;
    line.rules.change(true);
    line.answer(OK).await;
    line.client_gets(OK).await;
    line.ask(GET).await;
    line.server_gets(GOT).await;
    line.rules.change(false);
    line.answer(OK).await;
    line.client_gets(OK).await;
    line.ask(GET).await;
    assert_eq!(line.refusal().await, (403, Outcome::Denied(DENIES)));
}

#[tokio::test(start_paused = true)]
async fn bodies_stream_both_ways_before_either_is_whole() {
    let mut line = Line::new();
    line.ask("POST /public/a HTTP/1.1\r\nHost: good\r\nContent-Length: 4\r\n\r\nab").await;
    line.server_gets("POST /public/a HTTP/1.1\r\nhost: good\r\ncontent-length: 4\r\n\r\nab").await;
    line.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    line.client_gets("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    line.ask("cd").await;
    line.server_gets("cd").await;
    line.answer("0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n").await;
    line.client_gets("0\r\nX-Sum: 1\r\n\r\n").await;
    line.ask(GET).await;
    line.server_gets(GOT).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_for_100_and_policy_comes_first() {
    let mut line = Line::new();
    line.ask("POST /public/a HTTP/1.1\r\nHost: good\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let got = "POST /public/a HTTP/1.1\r\nhost: good\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    line.server_gets(got).await;
    // Whoever waits for an upstream that thinks is not slow.
    tokio::time::sleep(Duration::from_mins(1)).await;
    line.answer("HTTP/1.1 100 Continue\r\n\r\n").await;
    line.client_gets("HTTP/1.1 100 Continue\r\n\r\n").await;
    line.ask("hi").await;
    line.server_gets("hi").await;
    line.answer(OK).await;
    line.client_gets(OK).await;
    line.ask("POST /admin HTTP/1.1\r\nHost: good\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(line.refusal().await, (403, Outcome::Denied(DENIES)));
}

const UPLOAD: &str = "POST /public/a HTTP/1.1\r\nHost: good\r\nContent-Length: 10\r\n\r\n";
const UPLOAD_GOT: &str = "POST /public/a HTTP/1.1\r\nhost: good\r\ncontent-length: 10\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn an_early_answer_that_ends_the_connection_ends_it() {
    let mut line = Line::new();
    line.ask(format!("{UPLOAD}GET /")).await;
    let response = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    line.answer(response).await;
    let (rest, records) = line.rest().await;
    assert_eq!((rest.as_str(), records), (response, vec![allowed("POST good/public/a", 413)]));
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_request_that_is_answered_early_is_no_request() {
    let mut line = Line::new();
    line.ask(format!("{UPLOAD}GET /")).await;
    line.server_gets(&format!("{UPLOAD_GOT}GET /")).await;
    line.answer(OK).await;
    line.client_gets(OK).await;
    line.ask([b"admin", GET].concat()).await;
    line.server_gets(&format!("admin{GOT}")).await;
    line.answer(OK).await;
    line.client_gets(OK).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_never_told_to_continue_may_not_go_on() {
    let mut line = Line::new();
    line.ask(UPLOAD.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")).await;
    line.answer("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await;
    line.client_gets("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await;
    // The body, or the next request? The connection's end tells.
    line.ask(GET).await;
    let (rest, records) = line.rest().await;
    assert_eq!((rest.as_str(), records), ("", vec![allowed("POST good/public/a", 413)]));
}

#[tokio::test(start_paused = true)]
async fn a_response_of_unknown_length_ends_with_its_connection() {
    let mut line = Line::new();
    line.ask([GET, GET].concat()).await;
    line.answer("HTTP/1.1 200 OK\r\n\r\nall").await;
    line.server.shutdown().await.unwrap();
    let (rest, records) = line.rest().await;
    assert_eq!(rest, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall");
    assert_eq!(records, [allowed("GET good/public/a", 200)]);
}

#[tokio::test(start_paused = true)]
async fn ambiguous_responses_are_told_as_502_and_nothing_of_them_is_passed_on() {
    let responses = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Fault::LENGTH_AND_TRANSFER,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Fault::LENGTH),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", Fault::RESPONSE_BODY),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Fault::RESPONSE_BODY),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            Fault::SWITCHED,
        ),
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", Fault::BARE_LF),
        ("HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", Fault::BARE_CR),
        ("HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n", Fault::HEADER_LINE),
        ("HTTP/1.1 200 OK\r\nX\0: a\r\n\r\n", Fault::HEADER_LINE),
        ("HTTP/2 200 OK\r\n\r\n", Fault::STATUS_LINE),
        ("SSH-2.0-OpenSSH\r\n", Fault::STATUS_LINE),
        ("", Fault::UPSTREAM_ENDED),
        ("HTTP/1.1 200 OK\r\nContent-", Fault::UPSTREAM_ENDED),
    ];
    for (response, fault) in responses {
        let mut line = Line::new();
        line.ask(GET).await;
        line.server_gets(GOT).await;
        line.answer(response).await;
        line.server.shutdown().await.unwrap();
        assert_eq!(line.refusal().await, (502, Outcome::Failed(ALLOWS, fault)), "{response:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_response_is_not_taken_for_the_next_requests() {
    let mut line = Line::new();
    line.ask(GET).await;
    line.server_gets(GOT).await;
    line.answer(format!("{OK}{OK}")).await;
    line.client_gets(OK).await;
    line.ask(GET).await;
    let (rest, records) = line.rest().await;
    assert_eq!(rest, "");
    assert_eq!(records[1].outcome, Outcome::Refused(Fault::RESPONSE_UNASKED));
    // The same when it comes late.
    let mut line = Line::new();
    line.ask(GET).await;
    line.server_gets(GOT).await;
    line.answer(OK).await;
    line.client_gets(OK).await;
    line.answer(OK).await;
    assert_eq!(line.rest().await.0, "");
}

#[tokio::test(start_paused = true)]
async fn responses_to_head_have_no_body_whatever_they_say() {
    let mut line = Line::new();
    line.ask("HEAD /public/a HTTP/1.1\r\nHost: good\r\n\r\n").await;
    line.server_gets("HEAD /public/a HTTP/1.1\r\nhost: good\r\n\r\n").await;
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    line.answer(response).await;
    line.client_gets(response).await;
    line.ask(GET).await;
    line.server_gets(GOT).await;
    line.answer(OK).await;
    line.client_gets(OK).await;
}

const UPGRADE: &str =
    "GET /public/a HTTP/1.1\r\nHost: good\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const UPGRADE_GOT: &str =
    "GET /public/a HTTP/1.1\r\nhost: good\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_tunnel_opens_after_101_and_not_before() {
    let mut line = Line::new();
    line.ask(format!("{UPGRADE}early")).await;
    line.server_gets(UPGRADE_GOT).await;
    assert_eq!(read(&mut line.server, 1).await, "");
    line.answer(format!("{SWITCHED}from server")).await;
    line.client_gets(&format!("{SWITCHED}from server")).await;
    line.server_gets("early").await;
    line.ask("\0more").await;
    line.server_gets("\0more").await;
    // One side ends, the other goes on.
    line.client.shutdown().await.unwrap();
    assert_eq!(line.server.read(&mut [0]).await.unwrap(), 0);
    line.answer("last").await;
    line.client_gets("last").await;
    line.server.shutdown().await.unwrap();
    let (rest, records) = line.rest().await;
    assert_eq!((rest.as_str(), records), ("", vec![allowed("GET good/public/a", 101)]));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_ends_when_its_rule_does_and_survives_other_changes() {
    let mut line = Line::new();
    line.ask(UPGRADE).await;
    line.server_gets(UPGRADE_GOT).await;
    line.answer(SWITCHED).await;
    line.client_gets(SWITCHED).await;
    line.rules.change(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    line.ask("still").await;
    line.server_gets("still").await;
    line.rules.change(false);
    let begin = Instant::now();
    let (rest, records) = line.rest().await;
    assert!(begin.elapsed() <= Limits::default().review_time);
    assert_eq!((rest.as_str(), records[0].outcome), ("", Outcome::Withdrawn(ALLOWS)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_passed_on_after_a_rule_has_changed() {
    let mut line = Line::new();
    line.ask(UPGRADE).await;
    line.server_gets(UPGRADE_GOT).await;
    line.answer(SWITCHED).await;
    line.client_gets(SWITCHED).await;
    line.rules.change(false);
    line.ask("too late").await;
    assert_eq!(read(&mut line.server, 1).await, "");
    assert_eq!(line.rest().await.0, "");
}

#[tokio::test(start_paused = true)]
async fn the_upstream_is_not_connected_to_before_a_request_is_allowed() {
    for (request, connects) in
        [(GET, true), (b"GET /admin HTTP/1.1\r\nHost: good\r\n\r\n", false), (b"\0", false)]
    {
        let (mut client, near) = tokio::io::duplex(1 << 16);
        let (proxy, _) = proxy(Limits::default());
        client.write_all(request).await.unwrap();
        let mut connected = false;
        let connect = poll_fn(|_| {
            connected = true;
            Poll::Ready(Err::<DuplexStream, _>(std::io::ErrorKind::ConnectionRefused.into()))
        });
        let answered = async {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            drop(client);
            answer
        };
        let rules = Rules::http1();
        let (answer, ()) = tokio::join!(answered, proxy.serve(near, ends(), &rules, connect));
        assert_eq!(answer.starts_with("HTTP/1.1 502 "), connects, "{answer}");
        assert_eq!(connected, connects);
    }
}
