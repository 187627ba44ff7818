//! Requests near the edges of what the rules of a world ask: their own words, and words next to them.

use policy_compiler::explain::{HttpRequest, Request};

use crate::polder_policies::METHODS;

const HOSTS: &[&str] = &["a.b", "x.a.b", "b", "x.b", "c", "", "a.c"];
const PATHS: &[&str] =
    &["/a", "/a/", "/a/b", "/a/bc", "/ab", "/", "/svc/m", "/svc/n", "/a/b/c", "/b", "", "*", "/A", "/svc/"];
const NAMES: &[&str] = &["x-a", "x-b", "x_a", "x_b", "x-c", "content-type"];
const VALUES: &[&str] =
    &["v", "vv", "", "/a", "application/grpc", "application/grpc+json", "application/grpcx"];

/// Requests without end, in an order that `seed` fixes.
pub fn requests(seed: u64) -> impl Iterator<Item = Request> {
    let mut random = Random(seed);
    std::iter::repeat_with(move || match random.below(12) {
        0 => Request::Opaque,
        1 | 2 => Request::Tls(random.of(HOSTS)),
        3 => {
            let content = random.of(&VALUES[4..]);
            let headers = vec![("content-type".to_owned(), content)];
            let method = if random.below(4) == 0 { "GET" } else { "POST" }.to_owned();
            let path = random.of(&PATHS[6..9]);
            Request::Http(HttpRequest { method, path, host: None, headers, http2: random.below(4) != 0 })
        }
        _ => {
            let headers = (0..random.below(4)).map(|_| (random.of(NAMES), random.of(VALUES))).collect();
            let host = Some(random.of(HOSTS));
            let (method, path) = (random.of(METHODS), random.of(PATHS));
            Request::Http(HttpRequest { method, path, host, headers, http2: random.below(3) == 0 })
        }
    })
}

/// A small generator: the order is an input, so that it shrinks and replays.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }

    fn of(&mut self, words: &[&str]) -> String {
        words[self.below(words.len())].to_owned()
    }
}
