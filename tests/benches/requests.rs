//! What a request costs under 1, 100 and 10,000 rules about requests, and what making their automaton costs.
//!
//! `cargo xtask bench requests`. Nanoseconds are the least of many short bursts on this machine; what counts is the ratio to one
//! rule, which is to stay near 1.

#![expect(clippy::expect_used, reason = "the inputs are made here")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use datapath::http::{Head, Request, Version};
use datapath::l7;
use datapath::verdict::{Action, Tier};
use policy_compiler::asks::{Asks, HeaderMatch, HttpMatch, NamePattern, PathPattern, ValuePattern};
use policy_compiler::list::{Conditional, List};

const BURSTS: usize = 200;
const REQUESTS: u32 = 500;

fn main() {
    println!(
        "{:>6} | {:>9} | {:>10} | {:>8} {:>6} | {:>8} {:>6}",
        "rules", "made in", "bytes", "matching", "ratio", "other", "ratio"
    );
    let mut first = None;
    for count in [1, 100, 10_000] {
        let list = List::new((0..count).map(rule).collect());
        let began = Instant::now();
        let bytes = list.bytes().len();
        let made = began.elapsed();
        let list = l7::List::new(list.bytes()).expect("lists are made to be read");
        // The last rule, and none.
        let path = format!("/v1/items/{:05}/reviews/7", count - 1);
        let headers: [(&[u8], &[u8]); 6] = [
            (b"user-agent", b"curl/8.5.0"),
            (b"accept", b"*/*"),
            (b"x-request-id", b"00000000-0000-4000-8000-000000000000"),
            (b"x-session", b"s-0123456789"),
            (b"content-type", b"application/json"),
            (b"content-length", b"17"),
        ];
        let of = |path: &str, matches: bool| {
            let host: &[u8] = b"shop.example";
            let head = Head {
                protocol: Version::Http1,
                method: b"POST",
                host,
                path: path.as_bytes(),
                headers: &headers,
            };
            let request = Request::Http(head);
            let found = list.slots(&request).expect("lists are made to be read");
            assert_eq!(!found[Tier::Namespace as usize].is_empty(), matches, "{path}");
            nanoseconds(|| list.slots(black_box(&request)))
        };
        let costs = [of(&path, true), of("/v1/items/99999/reviews/7", false)];
        let [one, other] = *first.get_or_insert(costs);
        println!(
            "{count:>6} | {made:>9.1?} | {bytes:>10} | {:>5.0} ns {:>6.2} | {:>5.0} ns {:>6.2}",
            costs[0],
            costs[0] / one,
            costs[1],
            costs[1] / other
        );
    }
}

/// POST below one item, with a session.
fn rule(rank: u32) -> Conditional {
    let header = HeaderMatch { name: "x-session".into(), value: ValuePattern::Regex("s-[0-9]+".into()) };
    let http = HttpMatch {
        at: "".into(),
        http2: false,
        methods: vec!["POST".into(), "PUT".into()],
        hosts: vec![NamePattern::Exact("shop.example".into())],
        path: Some(PathPattern::Prefix(format!("/v1/items/{rank:05}").into())),
        headers: vec![header],
    };
    Conditional { tier: Tier::Namespace, rank, action: Action::Allow, asks: Arc::new(Asks::Http(vec![http])) }
}

/// The least time of a call.
fn nanoseconds<T>(call: impl Fn() -> T) -> f64 {
    let burst = || {
        let began = Instant::now();
        for _ in 0..REQUESTS {
            black_box(call());
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(REQUESTS)
    };
    (0..BURSTS).map(|_| burst()).fold(f64::INFINITY, f64::min)
}
