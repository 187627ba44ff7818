//! HTTP/2 and gRPC through the proxy: streams that are judged one by one, and the floods of the threat list.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use proxy::fault::Fault;
use proxy::limits::Limits;
use proxy::log::{Outcome, Protocol};
use proxy::policy::Protocols;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::rig::{ALLOWS, DENIES, Keeper, Kept, Rules, ends, proxy};

/// The near end of a proxy, and what became of its far end.
struct Line {
    client: DuplexStream,
    keeper: Arc<Keeper>,
    rules: Arc<Rules>,
    proxy: JoinHandle<()>,
    /// Every request that the server got.
    server: JoinHandle<Vec<String>>,
}

fn line() -> Line {
    let (client, near) = tokio::io::duplex(1 << 20);
    let (far, server) = tokio::io::duplex(1 << 20);
    let (proxy, keeper) = proxy(Limits::default());
    let rules = Arc::new(Rules::of(Protocols { http1: false, http2: true, tls: false }));
    let policy = Arc::clone(&rules);
    let proxy = tokio::spawn(async move { proxy.serve(near, ends(), &*policy, async { Ok(far) }).await });
    Line { client, keeper, rules, proxy, server: tokio::spawn(serve(server)) }
}

/// A server that sends back what it gets, with trailers; to `/public/wait` it says nothing.
async fn serve(stream: DuplexStream) -> Vec<String> {
    let mut got = Vec::new();
    let Ok(mut connection) = h2::server::handshake(stream).await else { return got };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (parts, mut body) = request.into_parts();
        got.push(format!("{} {} {:?}", parts.method, parts.uri, sorted(&parts.headers)));
        tokio::spawn(async move {
            if parts.uri.path() == "/public/wait" {
                return std::future::pending().await;
            }
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                stream.send_data(data, false).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("set-cookie", "a".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        });
    }
    got
}

fn sorted(headers: &HeaderMap) -> Vec<String> {
    let mut headers: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
    headers.sort();
    headers
}

async fn connect(client: DuplexStream) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(client).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    sender
}

fn request(path: &str) -> http::request::Builder {
    Request::builder().uri(format!("http://good{path}"))
}

async fn send(sender: &SendRequest<Bytes>, request: Request<()>, body: Option<&'static [u8]>) -> Got {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, mut stream) = sender.send_request(request, body.is_none()).unwrap();
    if let Some(body) = body {
        // What is refused may be gone already.
        stream.send_data(Bytes::from_static(body), true).ok();
    }
    let response = response.await.map_err(|error| error.reason().unwrap_or(Reason::INTERNAL_ERROR))?;
    let (parts, body) = response.into_parts();
    let (text, trailers) = read(body).await;
    Ok((parts.status.as_u16(), sorted(&parts.headers), text, trailers))
}

/// Status, headers, body and trailers; or why the stream was reset.
type Got = Result<(u16, Vec<String>, String, Vec<String>), Reason>;

async fn read(mut body: RecvStream) -> (String, Vec<String>) {
    let mut all = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    (String::from_utf8_lossy(&all).into_owned(), sorted(&trailers))
}

fn told(request: &str, status: u16, outcome: Outcome) -> Kept {
    Kept { protocol: Protocol::Http2, request: request.to_owned(), status: Some(status), outcome }
}

#[tokio::test(start_paused = true)]
async fn each_stream_has_its_own_verdict() {
    let line = line();
    let sender = connect(line.client).await;
    let post = |path: &str| request(path).method("POST").body(()).unwrap();
    let (allowed, denied, again) = tokio::join!(
        send(&sender, post("/public/a?q=1"), Some(b"hello")),
        send(&sender, post("/admin"), Some(b"hello")),
        send(&sender, request("/public/b").body(()).unwrap(), None),
    );
    let trailers = vec!["grpc-status=0".to_owned()];
    assert_eq!(allowed, Ok((200, vec![], "hello".to_owned(), trailers.clone())));
    let headers = vec!["content-length=17".to_owned(), "content-type=text/plain".to_owned()];
    assert_eq!(denied, Ok((403, headers, "denied by policy\n".to_owned(), vec![])));
    assert_eq!(again, Ok((200, vec![], String::new(), trailers)));
    line.rules.change(false);
    let later = send(&sender, request("/public/c").body(()).unwrap(), None).await;
    assert_eq!(later.unwrap().0, 403);
    drop(sender);
    line.proxy.await.unwrap();
    let got = line.server.await.unwrap();
    assert_eq!(got, ["POST http://good/public/a?q=1 []", "GET http://good/public/b []"]);
    let mut records = line.keeper.take();
    records.sort_by(|one, other| one.request.cmp(&other.request));
    let expected = [
        told("GET good/public/b", 200, Outcome::Allowed(ALLOWS)),
        told("GET good/public/c", 403, Outcome::Denied(DENIES)),
        told("POST good/admin", 403, Outcome::Denied(DENIES)),
        told("POST good/public/a", 200, Outcome::Allowed(ALLOWS)),
    ];
    assert_eq!(records, expected);
}

#[tokio::test(start_paused = true)]
async fn grpc_is_refused_in_its_own_words() {
    let line = line();
    let sender = connect(line.client).await;
    let call = |path: &str| {
        let call = request(path).method("POST").header("content-type", "application/grpc+proto");
        call.header("te", "trailers").body(()).unwrap()
    };
    let denied = send(&sender, call("/shop.Cart/Add"), Some(b"\0\0\0\0\0")).await;
    let headers = ["content-type=application/grpc", "grpc-message=denied by policy", "grpc-status=7"];
    assert_eq!(denied, Ok((200, headers.map(str::to_owned).to_vec(), String::new(), vec![])));
    let allowed = send(&sender, call("/public/Add"), Some(b"\0\0\0\0\0")).await.unwrap();
    assert_eq!((allowed.0, allowed.3), (200, vec!["grpc-status=0".to_owned()]));
    drop(sender);
    line.proxy.await.unwrap();
    let got = line.server.await.unwrap();
    assert_eq!(
        got,
        [r#"POST http://good/public/Add ["content-type=application/grpc+proto", "te=trailers"]"#]
    );
}

#[tokio::test(start_paused = true)]
async fn what_servers_might_read_differently_is_refused_by_stream() {
    let line = line();
    let sender = connect(line.client).await;
    let get = |path: &str| request(path);
    let cases = [
        (get("/public/../admin"), 400),
        (get("/public/%2e%2e/admin"), 400),
        (get("/public//admin"), 400),
        (get("/public/a;b"), 400),
        (get("/public/a").header("x_role", "admin"), 400),
        (get("/public/a").header("x-role", "admin"), 403),
        (get("/public/a").header("host", "evil"), 400),
        (get("/public/a").header("expect", "other"), 417),
        (Request::builder().uri("https://good/public/a"), 400),
        (Request::builder().uri("http://other/public/a"), 403),
        (get("/public/a").method("get"), 400),
        (get(&format!("/public/{}", "a".repeat(8192))), 414),
        (get("/public/a").header("host", "GOOD:80"), 200),
    ];
    for (request, status) in cases {
        let request = request.body(()).unwrap();
        let what = format!("{request:?}");
        assert_eq!(send(&sender, request, None).await.unwrap().0, status, "{what}");
    }
    drop(sender);
    line.proxy.await.unwrap();
    assert_eq!(line.server.await.unwrap(), ["GET http://good/public/a []"]);
}

/// Many times what may be under way.
const SIZE: usize = 4 << 20;

#[tokio::test(start_paused = true)]
async fn large_bodies_pass_both_ways_at_the_pace_of_their_reader() {
    let line = line();
    let mut sender = connect(line.client).await.ready().await.unwrap();
    let (response, mut stream) =
        sender.send_request(request("/public/a").method("POST").body(()).unwrap(), false).unwrap();
    let upload = async {
        let mut left = SIZE;
        while left > 0 {
            stream.reserve_capacity(left);
            let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await.unwrap().unwrap();
            let room = room.min(left);
            stream.send_data(Bytes::from(vec![b'a'; room]), left == room).unwrap();
            left -= room;
        }
    };
    let download = async { read(response.await.unwrap().into_body()).await.0.len() };
    let ((), got) = tokio::join!(upload, download);
    assert_eq!(got, SIZE);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_silent_does_not_hold_for_ever() {
    let line = line();
    let sender = connect(line.client).await;
    let waiting = send(&sender, request("/public/wait").body(()).unwrap(), None);
    let limits = Limits::default();
    let ended = timeout(limits.stall_time * 3, waiting).await;
    assert!(matches!(ended, Ok(Err(_))), "{ended:?}");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET http://good/public/wait` in HPACK, without indexing but for what is in the static table.
fn get_block() -> Vec<u8> {
    [&[0x82, 0x86, 0x04, 12][..], b"/public/wait", &[0x01, 4], b"good"].concat()
}

/// Sends frames behind a preface, and gives the reason of the connection's end, if it ends.
async fn flood(frames: impl IntoIterator<Item = Vec<u8>>) -> (Option<u32>, Line) {
    let mut line = line();
    let (mut reader, mut writer) = tokio::io::split(line.client);
    let sending = async move {
        writer.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
        for frame in frames {
            if writer.write_all(&frame).await.is_err() {
                return writer;
            }
            tokio::task::yield_now().await;
        }
        writer
    };
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        // Less than any time-out: an end within this time is because of what was sent.
        while let Ok(Ok(count @ 1..)) = timeout(Duration::from_secs(5), reader.read(&mut buffer)).await {
            answer.extend_from_slice(&buffer[..count]);
        }
        reader
    };
    let (writer, reader) = tokio::join!(sending, reading);
    line.client = reader.unsplit(writer);
    (goaway(&answer), line)
}

fn goaway(mut frames: &[u8]) -> Option<u32> {
    let mut reason = None;
    while let Some((header, rest)) = frames.split_at_checked(9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        if header[3] == 7 {
            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        frames = rest;
    }
    reason
}

const CALM: Option<u32> = Some(11);

#[tokio::test(start_paused = true)]
async fn floods_end_their_connection() {
    let many = usize::try_from(Limits::default().control_frames).unwrap() + 100;
    let ping = frame(6, 0, 0, &[0; 8]);
    let settings = frame(4, 0, 0, &[]);
    let priority = frame(2, 0, 1, &[0, 0, 0, 3, 1]);
    let window = frame(8, 0, 0, &[0, 0, 0, 1]);
    for (what, flooding) in
        [("PING", ping), ("SETTINGS", settings), ("PRIORITY", priority), ("WINDOW_UPDATE", window)]
    {
        let (reason, line) = flood(vec![flooding; many]).await;
        assert_eq!(reason, CALM, "{what}");
        assert_eq!(line.keeper.take().last().unwrap().outcome, Outcome::Refused(Fault::HTTP2), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn empty_data_is_a_flood_too() {
    let open = frame(1, 4, 1, &get_block());
    let empty = frame(0, 0, 1, &[]);
    let (reason, _line) = flood(std::iter::once(open).chain(vec![empty; 2000])).await;
    assert_eq!(reason, CALM);
}

#[tokio::test(start_paused = true)]
async fn rapid_resets_are_cut_off_and_most_never_reach_the_server() {
    let attack = (0..5000).flat_map(|number| {
        let stream = 2 * number + 1;
        [frame(1, 5, stream, &get_block()), frame(3, 0, stream, &8_u32.to_be_bytes())]
    });
    // In one piece, so that streams are reset before they are looked at.
    let (reason, line) = flood([attack.flatten().collect()]).await;
    assert_eq!(reason, CALM);
    drop(line.client);
    line.proxy.await.unwrap();
    assert!(line.server.await.unwrap().len() <= 1100);
}

#[tokio::test(start_paused = true)]
async fn headers_that_never_end_are_cut_off() {
    let begin = frame(1, 0, 1, &get_block());
    let more = frame(9, 0, 1, &[0x00, 1, b'a', 1, b'b']);
    let (reason, line) = flood(std::iter::once(begin).chain(vec![more; 50])).await;
    assert!(reason.is_some_and(|reason| reason != 0), "{reason:?}");
    drop(line.client);
    line.proxy.await.unwrap();
    assert!(line.server.await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_small_block_that_stands_for_a_large_head_is_refused() {
    // One entry of 4,000 octets in the dynamic table, and then an octet for each time it is meant.
    let mut block = get_block();
    block.extend_from_slice(&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    block.extend_from_slice(&vec![b'b'; 4000]);
    block.extend_from_slice(&vec![0xbe; 10_000]);
    let (_, line) = flood([frame(1, 5, 1, &block)]).await;
    drop(line.client);
    line.proxy.await.unwrap();
    assert!(line.server.await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn malformed_streams_never_reach_the_server() {
    let literal = |name: &str, value: &str| {
        let part = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
        [&[0][..], &part(name), &part(value)].concat()
    };
    let with = |extra: Vec<u8>| [get_block(), extra].concat();
    let blocks = [
        with(literal("Upper", "a")),
        with(literal("a", "b\r\nc: d")),
        with(literal("a", "b\0")),
        with(literal("connection", "close")),
        with(literal("transfer-encoding", "chunked")),
        with(literal("te", "gzip")),
        with(literal(":path", "/admin")),
        with(literal(":unknown", "a")),
        with(literal("host", "evil")),
        with([literal("a", "b"), literal(":method", "GET")].concat()),
        [literal(":method", "GET"), literal(":scheme", "http"), literal(":authority", "good")].concat(),
        [literal(":method", "CONNECT"), literal(":authority", "good:80")].concat(),
        [
            literal(":method", "CONNECT"),
            literal(":protocol", "websocket"),
            literal(":scheme", "http"),
            literal(":path", "/public/a"),
            literal(":authority", "good"),
        ]
        .concat(),
        [
            literal(":method", "GET"),
            literal(":scheme", "http"),
            literal(":authority", "good"),
            literal(":path", ""),
        ]
        .concat(),
        [
            literal(":method", "GET"),
            literal(":scheme", "http"),
            literal(":authority", "good"),
            literal(":path", "public/a"),
        ]
        .concat(),
        [
            literal(":method", "GET"),
            literal(":scheme", "http"),
            literal(":authority", "good"),
            literal(":path", "//public/a"),
        ]
        .concat(),
        [
            literal(":method", "GET"),
            literal(":scheme", "http"),
            literal(":authority", "u@good"),
            literal(":path", "/public/a"),
        ]
        .concat(),
        [literal(":method", "GET"), literal(":scheme", "http"), literal(":path", "/public/a")].concat(),
    ];
    for block in blocks {
        let (_, line) = flood([frame(1, 5, 1, &block)]).await;
        drop(line.client);
        line.proxy.await.unwrap();
        let got = line.server.await.unwrap();
        assert!(got.is_empty(), "{}: server got {got:?}", block.escape_ascii());
    }
    // A body that is not as long as was said.
    let block = with(literal("content-length", "5"));
    for data in [&b"four"[..], b"sixsix"] {
        let (_, line) = flood([frame(1, 4, 1, &block), frame(0, 1, 1, data)]).await;
        assert!(!line.keeper.take().iter().any(|kept| kept.outcome == Outcome::Allowed(ALLOWS)));
    }
}
