use std::path::{Path, PathBuf};

use super::file::parse;
use super::judge::{self, Outcome, State};
use super::{Ran, exit_code, report};
use crate::input::{Args, Input};

/// A folder of its own with these manifests; removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, manifests: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polctl-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("all.yaml"), manifests).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const MANIFESTS: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: prod}
spec:
  podSelector: {matchLabels: {app: api}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: http}]
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: prod, labels: {app: web}}, spec: {}}
---
{apiVersion: v1, kind: Pod, metadata: {name: job, namespace: prod, labels: {app: job}}, spec: {}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: prod, labels: {app: api}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
";

fn outcomes(name: &str, tests: &str) -> Vec<Outcome> {
    let folder = Folder::new(name, MANIFESTS);
    let mut input = Input::load(&Args { filename: vec![folder.0.clone()] });
    let text = format!("apiVersion: polder.dev/v1alpha1\nkind: PolicyTest\ntests:\n{tests}");
    let suite = parse(Path::new("t.yaml"), text.as_bytes()).unwrap();
    suite.tests.iter().map(|test| judge::run(&mut input, test, "prod")).collect()
}

fn states(outcomes: &[Outcome]) -> Vec<(&str, bool)> {
    outcomes.iter().map(|outcome| (&*outcome.title, outcome.state == State::Passed)).collect()
}

#[test]
fn a_test_passes_if_every_combination_gets_the_verdict_from_the_rule_that_is_named() {
    let found = outcomes(
        "by",
        "\
- {name: allowed, from: prod/web, to: prod/api, port: http, expect: allow, by: NetworkPolicy prod/api rule 1}
- {name: other rule, from: prod/web, to: prod/api, port: http, expect: allow, by: prod/api rule 2}
- {name: other verdict, from: prod/web, to: prod/api, port: 8080, expect: deny}
- {name: default deny, from: job, to: api, port: 8080, expect: deny, by: default-deny}
- {name: the isolating policy, from: job, to: api, port: 8080, expect: deny, by: prod/api}
- {name: one of two, from: [web, job], to: api, port: 8080, expect: allow}
- {name: one port of two, from: web, to: api, port: [8080, 53/udp], expect: allow}
- {name: no port, from: job, to: api, expect: deny}
- {name: some ports, from: web, to: api, expect: deny}
- {name: no policy, from: api, to: web, port: 80, expect: allow, by: no-policy}
- {name: ping, from: web, to: api, protocol: icmp, expect: deny}
",
    );
    assert_eq!(
        states(&found),
        [
            ("allowed", true),
            ("other rule", false),
            ("other verdict", false),
            ("default deny", true),
            ("the isolating policy", true),
            ("one of two", false),
            ("one port of two", false),
            ("no port", true),
            ("some ports", false),
            ("no policy", true),
            ("ping", true),
        ]
    );
}

#[test]
fn a_name_that_nothing_has_makes_the_test_one_that_cannot_be_run() {
    let found = outcomes("broken", "- {from: prod/wbe, to: prod/api, port: 80, expect: deny}\n");
    let State::Broken(why) = &found[0].state else { panic!("{found:?}") };
    assert_eq!(why, "nothing is called wbe in prod; did you mean prod/web?");
    let ran = |outcomes| [Ran { file: "t.yaml".to_owned(), outcomes }];
    assert_eq!(exit_code(&ran(found)), 2);
    assert_eq!(exit_code(&ran(outcomes("fails", "- {from: web, to: api, port: 80, expect: allow}\n"))), 1);
    assert_eq!(exit_code(&ran(outcomes("passes", "- {from: web, to: api, port: 80, expect: deny}\n"))), 0);
}

#[test]
fn what_is_wrong_with_a_test_file_is_named_with_its_line() {
    let text = "\
apiVersion: polder.dev/v1
kind: PolicyTest
test: []
tests:
- from: a
  to: []
  ports: 80
  expect: drop
- from: a
  to: b
  port: [0, 80/icmp]
  protocol: tcp
  by: x y z
  expect: [allow, deny]
- 5
";
    let problems = parse(Path::new("t.yaml"), text.as_bytes()).unwrap_err();
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let by = super::by::FORM;
    assert_eq!(
        found,
        [
            "t.yaml:3: PolicyTest t.yaml: unknown field `test`; expected one of apiVersion, kind, manifests, tests",
            "t.yaml:1: PolicyTest t.yaml: apiVersion: found a string (polder.dev/v1); expected polder.dev/v1alpha1",
            "t.yaml:7: PolicyTest t.yaml: tests[0]: unknown field `ports`; expected one of name, from, to, port, \
             protocol, http, host, headers, grpc, tls, expect, by",
            "t.yaml:6: PolicyTest t.yaml: tests[0].to: found an empty list; expected at least one value",
            "t.yaml:8: PolicyTest t.yaml: tests[0].expect: \"drop\" is no verdict; expected allow or deny",
            "t.yaml:11: PolicyTest t.yaml: tests[1].port: port 0 is out of range; expected 1 to 65535; expected 80, \
             http, 53/udp or dns/udp",
            "t.yaml:11: PolicyTest t.yaml: tests[1].port: \"icmp\" is not tcp, udp or sctp; expected 80, http, 53/udp or \
             dns/udp",
            "t.yaml:12: PolicyTest t.yaml: tests[1].protocol: tcp has ports; write --port NUMBER/tcp; expected icmp; for \
             TCP, UDP and SCTP a port",
            &format!("t.yaml:13: PolicyTest t.yaml: tests[1].by: \"x y z\" is no rule; expected {by}"),
            "t.yaml:14: PolicyTest t.yaml: tests[1].expect: found a list; expected one value",
            "t.yaml:15: PolicyTest t.yaml: tests[2]: found a number (5); expected a map",
        ]
    );
}

#[test]
fn manifests_are_found_from_the_folder_of_the_test_file() {
    let parse = |path: &str, manifests: &str| {
        let text = format!("{manifests}tests: [{{from: a, to: b, expect: deny}}]\n");
        parse(Path::new(path), text.as_bytes()).unwrap().manifests
    };
    assert_eq!(parse("a/t.yaml", "manifests: [., ../b]\n"), [PathBuf::from("a/."), PathBuf::from("a/../b")]);
    assert_eq!(parse("a/t.yaml", ""), [PathBuf::from("a")]);
    assert_eq!(parse("t.yaml", ""), [PathBuf::from(".")]);
}

#[test]
fn a_report_says_what_was_expected_and_found_and_which_rule_decided() {
    let folder = Folder::new("report", MANIFESTS);
    let mut input = Input::load(&Args { filename: vec![folder.0.clone()] });
    let text = "\
tests:
- {name: good, from: prod/web, to: prod/api, port: http, expect: allow}
- {name: bad, from: [prod/web, prod/job], to: prod/api, port: http, expect: allow}
";
    let suite = parse(Path::new("t.yaml"), text.as_bytes()).unwrap();
    let outcomes = suite.tests.iter().map(|test| judge::run(&mut input, test, "default")).collect();
    let ran = [Ran { file: "t.yaml".to_owned(), outcomes }];
    let found = anstream::adapter::strip_str(&report::text(&ran)).to_string();
    let place = format!("{}/all.yaml", folder.0.display());
    let expected = format!(
        "\
t.yaml
  PASS   good (line 2)
         allow: egress no policy; ingress NetworkPolicy prod/api spec.ingress[0] ({place}:7)
  FAIL   bad (line 3)
         prod/job -> prod/api 8080/TCP: expected allow, found deny
           egress of prod/job: allow, no policy
           ingress of prod/api: deny, default deny of NetworkPolicy prod/api ({place}:6)
         1 of 2 connections

1 passed, 1 failed
"
    );
    assert_eq!(found, expected);
    let json: serde_json::Value = serde_json::from_str(&report::json(&ran).unwrap()).unwrap();
    assert_eq!((&json["passed"], &json["failed"], &json["errors"]), (&1.into(), &1.into(), &0.into()));
    let failed = &json["tests"][1]["connections"][1];
    assert_eq!((&failed["from"], &failed["verdict"]), (&"prod/job".into(), &"deny".into()));
    let junit = report::junit(&ran).unwrap();
    assert!(
        junit.contains(
            "<testsuites name=\"polctl test\" tests=\"2\" skipped=\"0\" failures=\"1\" errors=\"0\">"
        ),
        "{junit}"
    );
    assert!(junit.contains("<failure message=\"expected allow\">"), "{junit}");
}

#[test]
fn the_tests_of_the_examples_pass_and_those_of_the_shop_notice_its_change() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let run = |tests: &str, manifests: &str| {
        let suite = super::file::read(&examples.join(tests).join("policy-tests.yaml")).unwrap().unwrap();
        let mut input = Input::load(&Args { filename: vec![examples.join(manifests)] });
        let outcomes: Vec<Outcome> =
            suite.tests.iter().map(|test| judge::run(&mut input, test, "default")).collect();
        let failed: Vec<String> = outcomes
            .into_iter()
            .filter(|outcome| outcome.state != State::Passed)
            .map(|outcome| outcome.title)
            .collect();
        failed
    };
    for example in ["shop", "shop-next", "multi-tenant", "dual-stack", "http"] {
        assert_eq!(run(example, example), Vec::<String>::new(), "{example}");
    }
    assert_eq!(
        run("shop", "shop-next"),
        [
            "the frontend still has its sessions in the database",
            "monitoring/grafana -> shop/frontend, shop/cart, shop/catalog, shop/payments: deny",
        ]
    );
}

#[test]
fn a_file_without_a_test_is_not_valid() {
    for text in ["tests: []\n", "manifests: [.]\ntests: []\n---\ntests: []\n"] {
        let problems = parse(Path::new("t.yaml"), text.as_bytes()).unwrap_err();
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            ["t.yaml:1: PolicyTest t.yaml: tests: there is no test in it; expected at least one test"]
        );
    }
    let two = "tests: []\n---\ntests: [{from: a, to: b, expect: deny}]\n";
    assert_eq!(parse(Path::new("t.yaml"), two.as_bytes()).unwrap().tests.len(), 1);
}
