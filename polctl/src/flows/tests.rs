use agent_api::flow::{Asked, End, FlowLine, Rule};
use agent_api::judgement::Direction;
use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(words: &[&str]) -> Args {
    Cli::try_parse_from(std::iter::once("flows").chain(words.iter().copied())).unwrap().args
}

fn flow() -> FlowLine {
    FlowLine {
        time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        direction: Direction::Ingress,
        source: End { address: "fd00::9".parse().unwrap(), port: Some(4711), pod: None },
        destination: End {
            address: "fd00::1".parse().unwrap(),
            port: Some(80),
            pod: Some("shop/v".to_owned()),
        },
        protocol: "tcp".to_owned(),
        verdict: FlowVerdict::Denied,
        reason: "rule_denies".to_owned(),
        rule: Some(Rule {
            policy: "NetworkPolicy shop/v".to_owned(),
            path: "spec.ingress[0]".to_owned(),
            place: Some("a\u{1b}[2J.yaml:3".to_owned()),
        }),
        repeats: 3,
        request: None,
    }
}

fn written(output: Output, replies: &[Reply]) -> String {
    let mut out = Out { stdout: Vec::new(), output, written: 0 };
    assert!(out.begin().unwrap());
    for reply in replies {
        assert!(out.reply(reply).unwrap());
    }
    assert!(out.end().unwrap());
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_flow_is_a_line_that_says_who_what_why_and_how_often() {
    let mut icmp = flow();
    (icmp.source.port, icmp.destination.port, icmp.protocol) = (None, None, "icmpv6".to_owned());
    (icmp.verdict, icmp.reason, icmp.repeats) = (FlowVerdict::Allowed, "no_policy".to_owned(), 1);
    icmp.rule = None;
    let mut default = flow();
    default.rule = Some(Rule { policy: "NetworkPolicy shop/v".to_owned(), path: String::new(), place: None });
    default.verdict = FlowVerdict::Rejected;
    let replies = [Reply::Flow(flow()), Reply::Lost { lines: 7 }, Reply::Flow(icmp), Reply::Flow(default)];
    let text = written(Output::Text, &replies);
    assert_eq!(
        anstream::adapter::strip_str(&text).to_string(),
        "\
2026-01-02T03:04:05.678Z [fd00::9]:4711 -> shop/v:80 tcp DENIED at ingress, rule_denies: NetworkPolicy shop/v \
         spec.ingress[0] (a\\u{1b}[2J.yaml:3) x3
-- 7 lines are lost here: they came faster than they were read
2026-01-02T03:04:05.678Z fd00::9 -> shop/v icmpv6 ALLOWED at ingress, no_policy
2026-01-02T03:04:05.678Z [fd00::9]:4711 -> shop/v:80 tcp REJECTED at ingress, rule_denies: NetworkPolicy shop/v has \
         no rule that allows it x3
"
    );
    assert!(text.contains("\u{1b}[31m"), "denials are red");
}

#[test]
fn a_request_is_a_line_with_what_was_asked_and_answered() {
    let mut denied = flow();
    let asked = Asked {
        protocol: "http1".to_owned(),
        method: "GET".to_owned(),
        host: "v.shop".to_owned(),
        path: "/secret\u{1b}".to_owned(),
        status: Some(403),
        fault: None,
        seconds: 0.001,
    };
    (denied.request, denied.repeats) = (Some(Box::new(asked.clone())), 1);
    let mut refused = denied.clone();
    let nothing = || String::new();
    let fault = Some("not http".to_owned());
    refused.request =
        Some(Box::new(Asked { method: nothing(), host: nothing(), path: nothing(), fault, ..asked }));
    (refused.reason, refused.rule) = ("refused".to_owned(), None);
    let text = written(Output::Text, &[Reply::Flow(denied), Reply::Flow(refused)]);
    assert_eq!(
        anstream::adapter::strip_str(&text).to_string(),
        "\
2026-01-02T03:04:05.678Z [fd00::9]:4711 -> shop/v:80 http1 GET v.shop/secret\\u{1b} 403 DENIED at ingress, rule_denies: \
         NetworkPolicy shop/v spec.ingress[0] (a\\u{1b}[2J.yaml:3)
2026-01-02T03:04:05.678Z [fd00::9]:4711 -> shop/v:80 http1 403 (not http) DENIED at ingress, refused
"
    );
}

#[test]
fn flows_are_objects_in_a_list_or_one_a_line() {
    let replies = [Reply::Flow(flow()), Reply::Lost { lines: 7 }];
    let lines = written(Output::Jsonl, &replies);
    let (first, second) = lines.trim_end().split_once('\n').unwrap();
    assert_eq!(serde_json::from_str::<FlowLine>(first).unwrap(), flow());
    assert_eq!(second, r#"{"lost":7}"#);
    let list: Vec<serde_json::Value> = serde_json::from_str(&written(Output::Json, &replies)).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(written(Output::Json, &[]), "[]\n");
    assert_eq!(written(Output::Jsonl, &[]), "");
}

#[test]
fn what_is_asked_for_is_what_the_options_say() {
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let ask = |words: &[&str]| request(&args(words), now).unwrap();
    assert_eq!(ask(&[]), Flows::default());
    let five_minutes_ago = Some("2026-01-02T02:59:05Z".parse().unwrap());
    assert_eq!(
        ask(&["-f", "--pod", "shop/v", "--verdict", "rejected", "--since", "5m"]),
        Flows {
            follow: true,
            since: five_minutes_ago,
            pod: Some("shop/v".to_owned()),
            verdict: Some(FlowVerdict::Rejected)
        }
    );
    assert_eq!(ask(&["--since", "2026-01-02T02:59:05Z"]).since, five_minutes_ago);
    assert!(request(&args(&["-f", "-o", "json"]), now).unwrap_err().to_string().contains("-o jsonl"));
    for wrong in [["--pod", "v"], ["--pod", "a/b/c"], ["--since", "-5m"], ["--since", "soon"]] {
        assert!(Cli::try_parse_from(["flows"].into_iter().chain(wrong)).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_reader_that_hangs_up_ends_it() {
    struct HungUp;
    impl Write for HungUp {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Out { stdout: HungUp, output: Output::Text, written: 0 };
    assert!(!out.reply(&Reply::Flow(flow())).unwrap());
}
