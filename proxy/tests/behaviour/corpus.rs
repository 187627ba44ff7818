//! The attacks of the threat list, and everyday traffic, as data: what is sent, what is answered, what reaches the server.
//!
//! Each entry runs whole, in two parts split at every octet, and octet by octet, against a server that keeps what it gets.
//! Where the connection is to stay open, a request follows: it is answered only if both sides agree on where it begins.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy::leg::Stream;
use proxy::limits::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rules, ends, proxy};

/// One line of a file of the corpus. Octets are written as the characters of the same number.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    what: String,
    send: String,
    /// Of each response.
    status: Vec<u16>,
    /// What the server gets, request by request.
    #[serde(default)]
    forwarded: Vec<String>,
    /// Whether the proxy ends the connection.
    #[serde(default)]
    closed: bool,
    /// Whether the last of `forwarded` is no whole request, so that the server has nothing to answer.
    #[serde(default)]
    unanswered: bool,
}

pub(crate) const ATTACKS: &str = include_str!("../corpus/attacks.jsonl");
pub(crate) const CLEAN: &str = include_str!("../corpus/clean.jsonl");

const PROBE: &str = "GET /public/probe HTTP/1.1\r\nHost: good\r\n\r\n";
const PROBE_FORWARDED: &str = "GET /public/probe HTTP/1.1\r\nhost: good\r\n\r\n";

/// What the server says to everything.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// An entry as octets.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) send: Vec<u8>,
    pub(crate) status: Vec<u16>,
    pub(crate) forwarded: Vec<Vec<u8>>,
    closed: bool,
    unanswered: bool,
}

pub(crate) fn cases(file: &str) -> Vec<Case> {
    file.lines().map(|line| Case::from(serde_json::from_str::<Entry>(line).expect(line))).collect()
}

impl From<Entry> for Case {
    fn from(entry: Entry) -> Self {
        let mut case = Case {
            name: format!("{}: {}", entry.id, entry.what),
            send: octets(&entry.send),
            status: entry.status,
            forwarded: entry.forwarded.iter().map(|text| octets(text)).collect(),
            closed: entry.closed,
            unanswered: entry.unanswered,
        };
        if !case.closed {
            case.send.extend_from_slice(PROBE.as_bytes());
            case.forwarded.push(PROBE_FORWARDED.into());
            case.status.push(200);
        }
        case
    }
}

/// The octets of a text in which `{{x*3}}` stands for `xxx`.
fn octets(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (repeated, after) = after.split_once("}}").expect("a repetition ends");
        let (what, times) = repeated.rsplit_once('*').expect("a repetition has a number");
        octets.extend(latin(before));
        octets.extend(latin(&what.repeat(times.parse().expect("a number"))));
        rest = after;
    }
    octets.extend(latin(rest));
    octets
}

fn latin(text: &str) -> impl Iterator<Item = u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("an octet"))
}

/// Sends the parts one after the other, and gives what came back and what the server got.
async fn run<C: Stream + 'static, U: Stream + 'static>(
    case: &Case,
    parts: &[&[u8]],
    (mut client, near): (C, C),
    (far, server): (U, U),
) -> (Vec<u8>, Vec<u8>) {
    let (proxy, _keeper) = proxy(Limits::default());
    let got = Arc::new(Mutex::new(Vec::new()));
    let serving = tokio::spawn(async move {
        proxy.serve(near, ends(), &Rules::http1(), async { Ok(far) }).await;
    });
    let logging = tokio::spawn(log(server, case.forwarded.clone(), case.unanswered, Arc::clone(&got)));
    let mut answer = Vec::new();
    let mut count = parts.len();
    for part in parts {
        // The proxy may have had enough before everything was sent.
        if client.write_all(part).await.is_err() {
            break;
        }
        count -= 1;
        if count > 0 {
            pause().await;
        }
    }
    let mut buffer = [0; 4096];
    while case.closed || statuses(&answer).len() < case.status.len() {
        match client.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
    }
    drop(client);
    serving.await.expect("the proxy does not panic");
    logging.await.expect("the server does not panic");
    let got = got.lock().unwrap().clone();
    (answer, got)
}

/// Long enough for the proxy to read what is there.
async fn pause() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// A server that keeps what it gets, and answers when that is one of the requests it waits for.
async fn log<U: Stream>(mut server: U, expected: Vec<Vec<u8>>, unanswered: bool, got: Arc<Mutex<Vec<u8>>>) {
    let mut ends: Vec<usize> = Vec::new();
    for request in &expected {
        ends.push(ends.last().unwrap_or(&0) + request.len());
    }
    if unanswered {
        ends.pop();
    }
    let mut answered = 0;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = server.read(&mut buffer).await {
        let length = {
            let mut got = got.lock().unwrap();
            got.extend_from_slice(&buffer[..count]);
            got.len()
        };
        while ends.get(answered).is_some_and(|&end| length >= end) {
            answered += 1;
            if server.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// The statuses of the whole responses.
pub(crate) fn statuses(mut answer: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = response.parse(answer) else { return statuses };
        let body = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let body = body.map_or(0, |header| std::str::from_utf8(header.value).unwrap().parse().unwrap());
        let Some(rest) = answer.get(length + body..) else { return statuses };
        statuses.push(response.code.unwrap());
        answer = rest;
    }
}

/// What was not as listed.
fn difference(case: &Case, how: &str, (answer, got): &(Vec<u8>, Vec<u8>)) -> Option<String> {
    let expected = case.forwarded.concat();
    // Of a request that is faulty behind its head, the server may have got less.
    let same = if case.unanswered { expected.starts_with(got) } else { expected == *got };
    (statuses(answer) != case.status || !same).then(|| {
        let (answer, got, status) = (answer.escape_ascii(), got.escape_ascii(), &case.status);
        format!("{} ({how})\n  expected {status:?}, answered {answer}\n  server got {got}", case.name)
    })
}

/// All of them, as one that is wrong is seldom alone.
fn report(differences: &[String]) {
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

async fn run_in_memory(case: &Case, parts: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
    const ROOM: usize = 1 << 20;
    run(case, parts, tokio::io::duplex(ROOM), tokio::io::duplex(ROOM)).await
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    (near, far)
}

async fn run_over_loopback(case: &Case, parts: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
    let run = async { run(case, parts, pair().await, pair().await).await };
    tokio::time::timeout(Duration::from_secs(30), run).await.unwrap_or_else(|_| panic!("{} hangs", case.name))
}

#[tokio::test]
async fn attacks_are_answered_and_forwarded_as_listed() {
    let mut differences = Vec::new();
    for case in cases(ATTACKS) {
        differences.extend(difference(&case, "whole", &run_over_loopback(&case, &[&case.send]).await));
    }
    report(&differences);
}

#[tokio::test]
async fn everyday_traffic_is_never_refused() {
    let mut differences = Vec::new();
    for case in cases(CLEAN) {
        differences.extend(difference(&case, "whole", &run_over_loopback(&case, &[&case.send]).await));
    }
    report(&differences);
}

#[tokio::test(start_paused = true)]
async fn segments_make_no_difference() {
    let mut differences = Vec::new();
    for case in cases(ATTACKS).into_iter().chain(cases(CLEAN)) {
        // Of what is long by repetition, every position says the same.
        let step = (case.send.len() / 500).max(1);
        for at in (1..case.send.len()).step_by(step) {
            let (first, second) = case.send.split_at(at);
            let result = run_in_memory(&case, &[first, second]).await;
            differences.extend(difference(&case, &format!("split at {at}"), &result));
        }
    }
    report(&differences);
}

#[tokio::test(start_paused = true)]
async fn one_octet_at_a_time_makes_no_difference() {
    let mut differences = Vec::new();
    for case in cases(ATTACKS).into_iter().chain(cases(CLEAN)) {
        let parts: Vec<&[u8]> = case.send.chunks(1 + case.send.len() / 4000).collect();
        differences.extend(difference(&case, "octet by octet", &run_in_memory(&case, &parts).await));
    }
    report(&differences);
}

#[tokio::test]
async fn a_wrong_expectation_is_noticed() {
    let mut case = cases(CLEAN).swap_remove(0);
    let result = run_over_loopback(&case, &[&case.send]).await;
    assert_eq!(difference(&case, "whole", &result), None);
    case.forwarded[0].push(b'x');
    assert!(difference(&case, "whole", &result).is_some());
    case.forwarded[0].pop();
    case.status[0] = 400;
    assert!(difference(&case, "whole", &result).is_some());
}
