//! What lists answer, row by row; and that they answer whatever their bytes are.

#![expect(clippy::needless_pass_by_value, reason = "manifests are written where they are used")]

use datapath::http::{ClientHello, Head, Request, Version};
use datapath::l7;
use serde_json::{Value, json};

use super::*;
use crate::api::PolicyObject;
use crate::lower::lower;

/// What a rule with these fields asks.
fn asks(fields: Value) -> Arc<Asks> {
    let mut rule = fields;
    rule["action"] = json!("Allow");
    let object = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"subject": {"podSelector": {}}, "ingress": [rule]}});
    let object = PolicyObject::PolderPolicy(serde_json::from_value(object).unwrap());
    let policy = lower(&object, None).unwrap_or_else(|problems| panic!("{problems:?}")).policy;
    policy.ingress.rules[0].asks.clone().unwrap()
}

fn conditional(rank: u32, action: Action, fields: Value) -> Conditional {
    Conditional { tier: Tier::Namespace, rank, action, asks: asks(fields) }
}

/// `GET shop.example/path`, with headers.
fn ask(list: &List, method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Option<u32> {
    let headers: Vec<(&[u8], &[u8])> =
        headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    best(
        list,
        &Request::Http(Head {
            protocol: Version::Http1,
            method: method.as_bytes(),
            host: host.as_bytes(),
            path: path.as_bytes(),
            headers: &headers,
        }),
    )
}

/// The rank of the best rule.
fn best(list: &List, request: &Request<'_>) -> Option<u32> {
    let slots = l7::List::new(list.bytes()).unwrap().slots(request).unwrap();
    let slot = slots[Tier::Namespace as usize];
    (!slot.is_empty()).then(|| slot.rank())
}

fn one(action: Action, http: Value) -> List {
    List::new(vec![conditional(0, action, json!({"http": [http]}))])
}

#[test]
fn paths_match_segment_by_segment_and_from_end_to_end() {
    for (pattern, matching, others) in [
        (json!({"exact": "/a/b"}), vec!["/a/b"], vec!["/a/b/", "/a", "/A/b", "/a/bc", ""]),
        (json!({"prefix": "/a/b"}), vec!["/a/b", "/a/b/", "/a/b/c"], vec!["/a/bc", "/a", "/", ""]),
        (json!({"prefix": "/a/b/"}), vec!["/a/b", "/a/b/c"], vec!["/a/bc"]),
        (json!({"prefix": "/"}), vec!["/", "/x", "/x/y"], vec!["*", ""]),
        (json!({"exact": "*"}), vec!["*"], vec!["/", "/*"]),
        (json!({"regex": "/[0-9]+"}), vec!["/1", "/12"], vec!["/", "/1x", "x/1", "/1/2"]),
        (json!({"regex": "/a|/b/.*"}), vec!["/a", "/b/", "/b/c/d"], vec!["/ab", "/a/", "/b", "/b/\n"]),
        (json!({"regex": ""}), vec![""], vec!["/"]),
    ] {
        let list = one(Action::Allow, json!({"path": pattern}));
        for (paths, expected) in [(matching, Some(0)), (others, None)] {
            for path in paths {
                assert_eq!(ask(&list, "GET", "h", path, &[]), expected, "{pattern} {path:?}");
            }
        }
    }
}

#[test]
fn names_match_label_by_label() {
    let list = one(Action::Allow, json!({"hosts": ["Shop.Example.", "*.b.c"]}));
    for (host, expected) in [
        ("shop.example", Some(0)),
        ("x.b.c", Some(0)),
        ("y.x.b.c", Some(0)),
        ("b.c", None),
        ("b.c.evil", None),
        ("shop.example.evil", None),
        ("evilshop.example", None),
        ("", None),
    ] {
        assert_eq!(ask(&list, "GET", host, "/", &[]), expected, "{host}");
    }
    let list =
        List::new(vec![conditional(0, Action::Allow, json!({"tls": {"serverNames": ["a.b", "*.b.c"]}}))]);
    for (name, expected) in [("a.b", Some(0)), ("x.b.c", Some(0)), ("b.c", None), ("", None)] {
        assert_eq!(
            best(&list, &Request::Tls(ClientHello { server_name: name.as_bytes() })),
            expected,
            "{name}"
        );
    }
    assert_eq!(best(&list, &Request::Opaque), None);
}

#[test]
fn methods_are_case_sensitive_and_connect_is_let_through_by_name_only() {
    let named = one(Action::Allow, json!({"methods": ["GET", "CONNECT"]}));
    let any = one(Action::Allow, json!({}));
    let closed = one(Action::Deny, json!({}));
    for (method, expected) in [
        ("GET", [Some(0), Some(0), Some(0)]),
        ("get", [None, Some(0), Some(0)]),
        ("GETS", [None, Some(0), Some(0)]),
        ("CONNECT", [Some(0), None, Some(0)]),
    ] {
        let found = [&named, &any, &closed].map(|list| ask(list, method, "h", "/", &[]));
        assert_eq!(found, expected, "{method}");
    }
}

/// Threats H26: a header that stands twice, under another case or with `_` for `-`.
#[test]
fn a_header_must_match_as_a_whole_to_let_through_and_in_one_value_to_close() {
    let header = json!({"headers": [{"name": "X-User", "equal": "admin"}]});
    let (allow, deny) = (one(Action::Allow, header.clone()), one(Action::Deny, header));
    for (headers, expected) in [
        (vec![("x-user", "admin")], [Some(0), Some(0)]),
        (vec![("x-user", "admin"), ("x-user", "admin")], [Some(0), Some(0)]),
        (vec![("x-user", "admin"), ("x-user", "guest")], [None, Some(0)]),
        (vec![("x-user", "guest"), ("a", "b"), ("x-user", "admin")], [None, Some(0)]),
        (vec![("x-user", "admin"), ("x_user", "admin")], [None, Some(0)]),
        (vec![("x_user", "admin")], [None, Some(0)]),
        (vec![("x_user", "guest"), ("x-user", "admin")], [None, Some(0)]),
        (vec![("x-user", "guest")], [None, None]),
        (vec![("x-users", "admin")], [None, None]),
        (vec![], [None, None]),
    ] {
        let found = [&allow, &deny].map(|list| ask(list, "GET", "h", "/", &headers));
        assert_eq!(found, expected, "{headers:?}");
    }
    let present = one(
        Action::Allow,
        json!({"headers": [{"name": "a", "present": true}, {"name": "b", "regex": "x+"}]}),
    );
    for (headers, expected) in [
        (vec![("a", ""), ("b", "xx")], Some(0)),
        (vec![("b", "xx"), ("a", "anything")], Some(0)),
        (vec![("a", ""), ("b", "")], None),
        (vec![("a", ""), ("b", "x"), ("b", "y")], None),
        (vec![("b", "x")], None),
    ] {
        assert_eq!(ask(&present, "GET", "h", "/", &headers), expected, "{headers:?}");
    }
}

#[test]
fn grpc_is_a_post_by_http2_with_its_content_type() {
    let list = List::new(vec![
        conditional(0, Action::Allow, json!({"grpc": [{"service": "shop.v1.Cart", "methods": ["Add"]}]})),
        conditional(1, Action::Allow, json!({"grpc": [{"service": "shop.v1.Stock"}]})),
    ]);
    let call = |protocol, method: &str, path: &str, content: &str| {
        let headers: [(&[u8], &[u8]); 1] = [(b"content-type", content.as_bytes())];
        let head = Head {
            protocol,
            method: method.as_bytes(),
            host: b"h",
            path: path.as_bytes(),
            headers: &headers,
        };
        best(&list, &Request::Http(head))
    };
    let grpc = "application/grpc";
    for (protocol, method, path, content, expected) in [
        (Version::Http2, "POST", "/shop.v1.Cart/Add", grpc, Some(0)),
        (Version::Http2, "POST", "/shop.v1.Cart/Add", "application/grpc+proto", Some(0)),
        (Version::Http2, "POST", "/shop.v1.Stock/Any", grpc, Some(1)),
        (Version::Http2, "POST", "/shop.v1.Cart/Remove", grpc, None),
        (Version::Http2, "POST", "/shopxv1.Stock/Any", grpc, None),
        (Version::Http2, "POST", "/shop.v1.Stock/a/b", grpc, None),
        (Version::Http2, "POST", "/shop.v1.Stock/", grpc, None),
        (Version::Http2, "POST", "/shop.v1.Cart/Add", "application/grpc-web", None),
        (Version::Http2, "GET", "/shop.v1.Cart/Add", grpc, None),
        (Version::Http1, "POST", "/shop.v1.Cart/Add", grpc, None),
    ] {
        assert_eq!(call(protocol, method, path, content), expected, "{method} {path} {content}");
    }
}

#[test]
fn what_is_asked_inside_of_tls_is_closed_by_a_rule_that_closes_http() {
    let list = List::new(vec![
        conditional(0, Action::Deny, json!({"http": [{"path": {"exact": "/admin"}}]})),
        conditional(1, Action::Allow, json!({"tls": {"serverNames": ["a.b"]}})),
    ]);
    assert_eq!(best(&list, &Request::Tls(ClientHello { server_name: b"a.b" })), Some(0));
    assert_eq!(ask(&list, "GET", "a.b", "/", &[]), None);
}

#[test]
fn tiers_are_answered_apart_and_the_best_rank_wins_in_each() {
    let path = |path: &str| asks(json!({"http": [{"path": {"prefix": path}}]}));
    let rule = |tier, rank, path| Conditional { tier, rank, action: Action::Allow, asks: path };
    let list = List::new(vec![
        rule(Tier::Baseline, 9, path("/a")),
        rule(Tier::Admin, 2, path("/a")),
        rule(Tier::Admin, 1, path("/a/b")),
        rule(Tier::Namespace, 5, path("/")),
    ]);
    let found = |path: &str| {
        let head =
            Head { protocol: Version::Http1, method: b"GET", host: b"", path: path.as_bytes(), headers: &[] };
        let slots = l7::List::new(list.bytes()).unwrap().slots(&Request::Http(head)).unwrap();
        slots.map(|slot| (!slot.is_empty()).then(|| slot.rank()))
    };
    assert_eq!(found("/a/b/c"), [Some(1), Some(5), Some(9)]);
    assert_eq!(found("/a"), [Some(2), Some(5), Some(9)]);
    assert_eq!(found("/c"), [None, Some(5), None]);
}

#[test]
fn ten_thousand_rules_are_one_walk() {
    let rules = (0..10_000).map(|rank| {
        let http = json!({"methods": ["GET", "POST"], "hosts": [format!("h{}.shop.example", rank % 97)],
            "path": {"prefix": format!("/v1/items/{rank}")}});
        conditional(rank, Action::Allow, json!({"http": [http]}))
    });
    let list = List::new(rules.collect());
    let bytes = list.bytes();
    assert_eq!(u32::from_le_bytes(bytes[16..20].try_into().unwrap()), 1, "one segment");
    assert!(bytes.len() < 16 << 20, "{} bytes", bytes.len());
    for rank in [0, 1, 77, 9_999] {
        let (host, path) = (format!("h{}.shop.example", rank % 97), format!("/v1/items/{rank}/more"));
        assert_eq!(ask(&list, "POST", &host, &path, &[]), Some(rank));
        assert_eq!(ask(&list, "PUT", &host, &path, &[]), None);
        assert_eq!(ask(&list, "GET", "h98.shop.example", &path, &[]), None);
    }
}

/// Two headers each, first the one and then the other: every subset of the rules is a state of its own.
#[test]
fn a_tree_that_would_be_too_large_is_cut_and_answers_the_same() {
    let rule = |rank: u32| {
        let headers = json!([{"name": format!("a{rank}"), "present": true}, {"name": format!("b{rank}"), "present": true}]);
        conditional(rank, Action::Allow, json!({"http": [{"headers": headers}]}))
    };
    let list = List::new((0..40).map(rule).collect());
    assert!(u32::from_le_bytes(list.bytes()[16..20].try_into().unwrap()) > 1, "several segments");
    assert_eq!(ask(&list, "GET", "h", "/", &[("a7", ""), ("b8", ""), ("a30", ""), ("b30", "")]), Some(30));
    assert_eq!(ask(&list, "GET", "h", "/", &[("b30", ""), ("a30", ""), ("a7", ""), ("b7", "")]), Some(7));
    assert_eq!(ask(&list, "GET", "h", "/", &[("a1", ""), ("b2", "")]), None);
}

/// Expressions of which any two together are too large for one automaton.
#[test]
fn expressions_that_are_too_large_together_are_asked_one_after_the_other() {
    let rule = |rank: u32| {
        let letter = char::from(b'a' + u8::try_from(rank).unwrap());
        let path = json!({"regex": format!("/.*{letter}.{{9}}")});
        conditional(rank, Action::Allow, json!({"http": [{"path": path}]}))
    };
    let list = List::new((0..6).map(rule).collect());
    assert_eq!(ask(&list, "GET", "h", "/xxxc123456789", &[]), Some(2));
    assert_eq!(ask(&list, "GET", "h", "/f23456789d123456789", &[]), Some(3));
    assert_eq!(ask(&list, "GET", "h", "/z123456789", &[]), None);
}

#[test]
fn an_expression_is_refused_for_what_it_is_or_for_its_size() {
    assert!(regex_states("/[a-z]+/.*").unwrap() < 10);
    for wrong in ["(", "a{2,1}", r"\1", "(?=a)", r"\p{Greek}"] {
        assert!(matches!(regex_states(wrong), Err(RegexProblem::Syntax(_))), "{wrong}");
    }
    for large in [".*a.{20}", "(a{1000}){1000}", "[ab]*a[ab]{15}"] {
        assert_eq!(regex_states(large), Err(RegexProblem::TooLarge), "{large}");
    }
}

#[test]
fn the_name_of_a_list_follows_from_its_ranks_and_it_lives_as_long_as_its_rows() {
    let rules = || vec![conditional(3, Action::Allow, json!({"http": [{}]}))];
    let (mut lists, mut others) = (Lists::default(), Lists::default());
    let (id, best) = lists.acquire(&[3], rules);
    assert_eq!((id, best), lists.acquire(&[3], rules));
    assert_eq!(best[Tier::Namespace as usize], Slot::asking(3).unwrap());
    assert_ne!(lists.acquire(&[3, 4], rules).0, id);
    assert_eq!(others.acquire(&[3], rules).0, id);
    assert_eq!(lists.iter().len(), 2);
    lists.release(id);
    assert!(lists.get(id).is_some());
    lists.release(id);
    assert!(lists.get(id).is_none());
}

/// Whatever the bytes are, an answer comes, in bounded time and without a panic.
#[test]
fn no_bytes_make_an_answer_that_does_not_come() {
    let list = List::new(vec![
        conditional(
            0,
            Action::Deny,
            json!({"http": [{"headers": [{"name": "x-a", "regex": "a+"}]}, {"methods": ["PUT"]}]}),
        ),
        conditional(1, Action::Allow, json!({"http": [{"path": {"prefix": "/a"}, "hosts": ["*.b"]}]})),
        conditional(2, Action::Allow, json!({"tls": {"serverNames": ["a.b"]}})),
    ]);
    let headers: [(&[u8], &[u8]); 2] = [(b"x-a", b"aab"), (b"x_a", b"a")];
    let head =
        Head { protocol: Version::Http1, method: b"GET", host: b"a.b", path: b"/a/b", headers: &headers };
    let requests = [Request::Http(head), Request::Tls(ClientHello { server_name: b"a.b" }), Request::Opaque];
    let (mut said, mut refused) = (0, 0);
    let mut try_out = |bytes: &[u8]| {
        for request in &requests {
            match l7::List::new(bytes).and_then(|list| list.slots(request)) {
                Ok(_) => said += 1,
                Err(l7::Fault::Corrupt) => refused += 1,
            }
        }
    };
    for length in 0..list.bytes().len() {
        try_out(&list.bytes()[..length]);
    }
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..50_000 {
        let mut bytes = list.bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len() / 4) * 4;
            let words = [0, 1, u32::MAX, u32::try_from(random(bytes.len() / 4)).unwrap()];
            bytes[at..at + 4].copy_from_slice(&words[random(4)].to_le_bytes());
        }
        try_out(&bytes);
    }
    assert!(said > 1000 && refused > 1000, "{said} said, {refused} refused: the test has lost its bite");
}

#[test]
fn a_list_says_which_protocols_and_headers_its_rules_are_about() {
    let http = one(Action::Allow, json!({"headers": [{"name": "X-Role", "equal": "user"}]}));
    let tls = List::new(vec![conditional(0, Action::Allow, json!({"tls": {"serverNames": ["a.b"]}}))]);
    let said = |list: &List| {
        let list = l7::List::new(list.bytes()).unwrap();
        (list.protocols(), list.asks_header(b"x-role"), list.asks_header(b"x-roles"))
    };
    assert_eq!(said(&http), (Ok(l7::HTTP), Ok(true), Ok(false)));
    assert_eq!(said(&tls), (Ok(l7::TLS), Ok(false), Ok(false)));
}
