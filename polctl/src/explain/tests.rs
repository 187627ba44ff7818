use std::sync::Arc;

use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::lower::lower;

use super::group::Answers;
use super::*;

const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, track: old}, ownerReferences: [&owner {apiVersion: apps/v1, kind: StatefulSet, name: web, controller: true, uid: a}]}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {app: web, track: new}, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: web, controller: true, uid: a}]}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8081}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.3}, {ip: 'fd00::3'}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: job, namespace: shop}
spec: {replicas: 3, template: {metadata: {labels: {app: job}}, spec: {containers: [{name: c}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: web, port: 80, targetPort: http}]}
";

const OPEN_TO_OLD: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/8}}]
    ports: [{port: http}]
";

fn ask(policies: &str, from: &str, to: &str, asked: &Asked) -> anyhow::Result<Answers> {
    ask_over(policies, from, to, asked, &request::Words::default())
}

fn ask_over(
    policies: &str,
    from: &str,
    to: &str,
    asked: &Asked,
    request: &request::Words,
) -> anyhow::Result<Answers> {
    let text = format!("{CLUSTER}{policies}");
    let world = manifests::load::load(&["-".into()], &mut text.as_bytes()).world();
    let policies =
        world.policies.iter().map(|(object, source)| Arc::new(lower(object, Some(source)).unwrap().policy));
    let compiler = Compiler::compile(Scope::All, &world.cluster, policies);
    let replicas = [(("shop".into(), "Deployment".into(), "job".into()), 3)].into();
    let mut input = Input { compiler, objects: Vec::new(), problems: Vec::new(), replicas };
    let from = party::find(input.compiler.cluster(), from, "shop")?;
    let to = party::find(input.compiler.cluster(), to, "shop")?;
    let any = matches!(asked, Asked::All);
    let units = units::units(&mut input, from, to, asked)?;
    let request = request.request().map_err(anyhow::Error::msg)?;
    Ok(group::answer(&input.compiler, units, request.as_ref(), any))
}

fn port(text: &str) -> Asked {
    Asked::Port(ask::port(text).unwrap())
}

/// `verdict protocol families: from -> to, ...`
fn said(answers: &Answers) -> Vec<String> {
    let of = |answer: &group::Answer| {
        let explanation = answer.explanation.as_ref().unwrap();
        let pairs: Vec<_> = answer.pairs.iter().map(|pair| format!("{} -> {}", pair.from, pair.to)).collect();
        let families: Vec<_> = answer.families.iter().copied().collect();
        format!(
            "{} {} {}: {}",
            explanation.verdict,
            explanation.protocol,
            families.join("+"),
            pairs.join(", ")
        )
    };
    answers.answers.iter().map(of).collect()
}

#[test]
fn equal_answers_are_one_and_others_are_each_shown() {
    let answers = ask("", "client", "web", &port("80")).unwrap();
    assert_eq!(
        said(&answers),
        ["allow 80/TCP IPv4+IPv6: shop/client -> shop/web-1, shop/client -> shop/web-2"]
    );
    assert!(answers.allowed);
    let answers = ask(OPEN_TO_OLD, "client", "web", &port("8080")).unwrap();
    assert_eq!(
        said(&answers),
        [
            "allow 8080/TCP IPv4: shop/client -> shop/web-1",
            "deny 8080/TCP IPv4+IPv6: shop/client -> shop/web-1, shop/client -> shop/web-2",
        ]
    );
    assert!(!answers.allowed, "one pair is denied");
}

#[test]
fn a_service_is_judged_at_the_target_port_of_each_backend() {
    for (to, asked) in [("svc/front", port("80")), ("front", port("web")), ("10.96.0.1", Asked::All)] {
        let answers = ask(OPEN_TO_OLD, "client", to, &asked).unwrap();
        assert_eq!(
            said(&answers),
            [
                "allow 8080/TCP IPv4: shop/client -> shop/web-1",
                "deny 8080/TCP IPv6: shop/client -> shop/web-1",
                "allow 8081/TCP IPv4: shop/client -> shop/web-2",
                "deny 8081/TCP IPv6: shop/client -> shop/web-2",
            ]
        );
        assert!(
            answers.notes.iter().any(|note| note.contains("never at its own address")),
            "{:?}",
            answers.notes
        );
    }
    for (from, to, asked, error) in [
        (
            "front",
            "client",
            port("80"),
            "service shop/front opens no connections; expected the workload behind it as FROM",
        ),
        ("client", "front", port("81"), "service shop/front has no such port; expected one of 80/TCP (web)"),
        ("client", "client", port("x"), "pod shop/client has no port named x; expected a number"),
        (
            "client",
            "front",
            Asked::Protocol(1),
            "service shop/front forwards only its ports; expected --port, or a pod as TO",
        ),
        ("10.0.0.9", "fd00::9", port("80"), "10.0.0.9 and fd00::9 have no address family in common"),
    ] {
        assert_eq!(ask("", from, to, &asked).unwrap_err().to_string(), error);
    }
}

#[test]
fn a_workload_to_itself_is_one_of_its_pods_to_another() {
    let deny = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}}
";
    let answers = ask(deny, "job", "job", &port("80")).unwrap();
    assert_eq!(said(&answers), ["deny 80/TCP IPv4+IPv6: shop/job -> shop/job-sibling"]);
    let answers = ask(deny, "web", "web", &port("80")).unwrap();
    assert_eq!(said(&answers), ["deny 80/TCP IPv4+IPv6: shop/web-1 -> shop/web-2, shop/web-2 -> shop/web-1"]);
}

#[test]
fn the_only_pod_of_a_workload_to_itself_is_said_to_be_that() {
    let one = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: one, namespace: shop}
spec: {template: {metadata: {labels: {app: one}}, spec: {containers: [{name: c}]}}}
";
    let note = "Deployment shop/one has only one pod here, so that this is the pod reaching itself; \
                with a second replica policy would decide between the two";
    assert_eq!(ask(one, "one", "one", &port("80")).unwrap().notes, [note]);
    for (from, to) in [("one", "client"), ("job", "job"), ("web", "web"), ("client", "client")] {
        let notes = ask(one, from, to, &port("80")).unwrap().notes;
        assert!(!notes.iter().any(|note| note.contains("reaching itself")), "{from} {to}: {notes:?}");
    }
}

#[test]
fn a_service_without_backends_says_why() {
    let services = "
---
{apiVersion: v1, kind: Service, metadata: {name: dns, namespace: shop}, spec: {type: ExternalName, externalName: example.org}}
---
{apiVersion: v1, kind: Service, metadata: {name: hand, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: none, namespace: shop}, spec: {selector: {app: gone}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: odd, namespace: shop}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: htpp}]}}
";
    for (to, why) in [
        ("dns", "has no ports, so that nothing goes through it"),
        ("hand", "it has no selector, and no endpoint slice here has that port"),
        ("none", "its selector finds no pod that runs"),
        ("odd", "none of its pods has a container port of the name"),
    ] {
        let error = ask(services, "client", to, &port("80")).unwrap_err().to_string();
        assert!(error.contains(why), "{to}: {error}");
    }
}

#[test]
fn without_a_port_the_groups_are_exact_and_one_that_is_allowed_is_enough() {
    let answers = ask(OPEN_TO_OLD, "client", "pod/web-1", &Asked::All).unwrap();
    assert!(answers.allowed);
    let text = anstream::adapter::strip_str(&text::text(&answers)).to_string();
    assert!(text.contains("TCP 8080: ALLOWED") && text.contains("everything else: DENIED"), "{text}");
    assert!(text.contains("over IPv6:") && text.contains("every protocol and port: DENIED"), "{text}");
    let answers = ask(OPEN_TO_OLD, "client", "pod/web-1", &Asked::Protocol(1)).unwrap();
    assert_eq!(said(&answers), ["deny ICMP IPv4+IPv6: shop/client -> shop/web-1"]);
}

#[test]
fn the_text_walks_the_tiers_and_hides_what_is_made_up_or_harmful() {
    let nasty = "
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress:
  - {name: \"red\\e[31m\\u202E\", action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: job}}}}]}
";
    let answers = ask(nasty, "job", "web", &port("80")).unwrap();
    let text = anstream::adapter::strip_str(&text::text(&answers)).to_string();
    assert!(!text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
    assert!(!text.contains("240.") && !text.contains("706f"), "{text}");
    for line in [
        "[Admin]         denied by ClusterNetworkPolicy guard spec.ingress[0] \"red\\u{1b}[31m\\u{202e}\" (-:",
        "[NetworkPolicy] not reached",
        "insert before [0] of spec.ingress:",
        "- action: Accept",
        "it opens 3 and closes 0",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
}

#[test]
fn what_is_asked_is_explained_part_by_part() {
    let limited = "
---
apiVersion: polder.dev/v1alpha1
kind: PolderPolicy
metadata: {name: web, namespace: shop}
spec:
  subject: {podSelector: {matchLabels: {app: web}}}
  ingress:
  - {action: Allow, protocols: [{destinationNamedPort: http}], http: [{methods: [GET], path: {prefix: /a}}]}
---
apiVersion: polder.dev/v1alpha1
kind: PolderPolicy
metadata: {name: audited, namespace: shop}
spec:
  subject: {podSelector: {}}
  mode: Audit
  ingress:
  - {action: Deny, http: [{path: {prefix: /a/secret}}]}
";
    let http = |text: &str| request::Words { http: Some(text.to_owned()), ..request::Words::default() };
    let tls = request::Words { tls: Some("a.b".to_owned()), ..request::Words::default() };
    let none = request::Words::default();
    for (request, verdict, lines) in [
        (
            none,
            "redirect",
            &[
                "8080/TCP: DEPENDS ON WHAT IS ASKED",
                "what is asked decides, by PolderPolicy shop/web spec.ingress[0]",
                "name a request",
            ][..],
        ),
        (
            http("GET /a/x"),
            "allow",
            &["GET /a/x on 8080/TCP: ALLOWED", "allowed by PolderPolicy shop/web spec.ingress[0]"],
        ),
        (
            http("POST /b"),
            "deny",
            &[
                "only some requests are allowed here, and this is none of them",
                "http[0]: the method is POST, not GET; the path is /b, not /a/...",
                "would allow this if HTTP GET /a/... were asked",
            ],
        ),
        (
            http("GET /a/secret"),
            "allow",
            &[
                "audit: with the policies in force that are only audited, the verdict would be deny by PolderPolicy shop/audited rule 1",
            ],
        ),
        (tls, "deny", &["TLS to a.b on 8080/TCP: DENIED", "this is no protocol that"]),
    ] {
        let answers = ask_over(limited, "client", "pod/web-1", &port("8080"), &request).unwrap();
        let explanation = answers.answers[0].explanation.as_ref().unwrap();
        assert_eq!(explanation.verdict, verdict, "{request:?}");
        assert!(explanation.notes.iter().all(|note| !note.contains("bug")), "{:?}", explanation.notes);
        assert_eq!(answers.depends_on_request(), verdict == "redirect");
        let text = anstream::adapter::strip_str(&text::text(&answers)).to_string();
        for line in lines {
            assert!(text.contains(line), "{line:?} is missing in\n{text}");
        }
    }
}
