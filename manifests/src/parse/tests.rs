//! Objects and problems of whole files.

use super::*;

fn objects(text: &str) -> Vec<(String, u32)> {
    let parsed = parse("f.yaml", text.as_bytes());
    assert_eq!(parsed.problems, []);
    parsed.objects.iter().map(|object| (object.object.to_string(), object.source.line)).collect()
}

fn problems(text: &str) -> Vec<String> {
    let parsed = parse("f.yaml", text.as_bytes());
    parsed
        .problems
        .iter()
        .map(|problem| format!("{} {}: {problem}", problem.severity.name(), problem.id))
        .collect()
}

const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: api
  namespace: prod
spec:
  podSelector: {}
  ingress:
  - from:
    - podSelector:
        matchLabels: {app: web}
    ports:
    - port: 80
";

#[test]
fn a_policy_knows_the_line_of_every_field() {
    let parsed = parse("f.yaml", format!("# first\n---\n{POLICY}").as_bytes());
    assert_eq!(parsed.problems, []);
    let [object] = &parsed.objects[..] else { panic!() };
    assert_eq!(object.object, ObjectRef::namespaced("NetworkPolicy", "prod", "api"));
    let Content::Policy(policy) = &object.content else { panic!() };
    let PolicyObject::NetworkPolicy(policy) = &**policy else { panic!() };
    assert_eq!(policy.spec.as_ref().unwrap().ingress.as_ref().unwrap().len(), 1);
    for (path, line) in [
        ("", 3),
        ("metadata.name", 6),
        ("spec.ingress", 10),
        ("spec.ingress[0]", 11),
        ("spec.ingress[0].from[0].podSelector.matchLabels.app", 13),
        ("spec.ingress[0].ports[0].port", 15),
        ("spec.ingress[0].ports[0].endPort", 15),
        ("spec.egress", 8),
    ] {
        assert_eq!(object.source.locate(path).to_string(), format!("f.yaml:{line}"), "{path}");
    }
}

#[test]
fn an_unknown_field_refuses_a_policy_but_not_a_pod() {
    let text = POLICY.replace("  - from:", "  - form:");
    assert_eq!(
        problems(&text),
        [
            "error invalid-object: f.yaml:9: NetworkPolicy prod/api: spec.ingress[0].form: unknown field `form`; \
          expected a field of NetworkPolicy; check its spelling and indentation"
        ]
    );
    assert_eq!(parse("f.yaml", text.as_bytes()).objects, []);
    let pod =
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {odd: 1, containers: [{image: 5}]}, more: x}";
    assert_eq!(objects(pod), [("Pod default/p".to_owned(), 1)]);
}

#[test]
fn an_unknown_field_is_found_however_deep_it_is() {
    let deep = format!("{}  odd: {}{}\n", POLICY, "[".repeat(120), "]".repeat(120));
    let paths: Vec<_> =
        parse("f.yaml", deep.as_bytes()).problems.into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["spec.odd"]);
}

#[test]
fn a_wrong_type_names_what_was_found_and_what_to_write() {
    assert_eq!(
        problems("apiVersion: v1\nkind: Pod\nmetadata:\n  name: y\n"),
        ["error invalid-object: f.yaml:4: Pod default/y: metadata.name: found a boolean (y); \
          expected a string: quote it (\"y\")"]
    );
    assert_eq!(
        problems("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels:\n    version: 1.10\n"),
        ["error invalid-object: f.yaml:6: Pod default/p: metadata.labels.version: found a number (1.10); \
          expected a string: quote it (\"1.10\")"]
    );
}

#[test]
fn a_policy_of_another_version_is_an_error() {
    let text = POLICY.replace("networking.k8s.io/v1", "extensions/v1beta1");
    assert_eq!(
        problems(&text),
        [
            "error invalid-object: f.yaml:1: NetworkPolicy prod/api: apiVersion: NetworkPolicy of extensions/v1beta1 \
          is not read; expected apiVersion: networking.k8s.io/v1"
        ]
    );
}

#[test]
fn a_misspelt_or_missing_kind_of_a_policy_is_an_error() {
    assert_eq!(
        problems(&POLICY.replace("NetworkPolicy", "Networkpolicy")),
        ["error invalid-object: f.yaml:2: Networkpolicy prod/api: kind: networking.k8s.io/v1 has no kind \
          Networkpolicy; expected kind: NetworkPolicy"]
    );
    assert_eq!(
        problems(&POLICY.replace("NetworkPolicy", "NetPol")),
        ["error invalid-object: f.yaml:2: NetPol prod/api: kind: networking.k8s.io/v1 has no kind NetPol; \
          expected kind: NetworkPolicy, or another kind of this group (Ingress, IngressClass, IPAddress, ServiceCIDR)"]
    );
    let list = "apiVersion: networking.k8s.io/v1\nkind: NetworkpolicyList\nitems:\n- metadata: {name: a}\n";
    assert_eq!(
        problems(list),
        [
            "error invalid-object: f.yaml:4: Networkpolicy a: kind: networking.k8s.io/v1 has no kind Networkpolicy; \
          expected kind: NetworkPolicy"
        ]
    );
    for kind in ["Kind: NetworkPolicy", "kind: null", "kind: 5", "kind: [NetworkPolicy]"] {
        assert_eq!(
            problems(&POLICY.replace("kind: NetworkPolicy", kind)),
            ["error invalid-object: f.yaml:1: File f.yaml: kind: an object has an apiVersion and no kind; \
              expected the kind of the object, as text"],
            "{kind}"
        );
    }
}

#[test]
fn the_description_of_a_chart_is_no_object() {
    let chart = "apiVersion: v2\nname: web\nversion: 1.0.0\n";
    assert!(problems(chart)[0].starts_with("note not-an-object: f.yaml:1:"), "{:?}", problems(chart));
    assert!(problems(&format!("{chart}spec: {{}}\n"))[0].starts_with("error invalid-object: f.yaml:1:"));
}

#[test]
fn lists_are_unrolled_with_their_lines() {
    let text = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: a, namespace: ignored}
- apiVersion: v1
  kind: PodList
  items:
  - metadata:
      name: p
      namespace: a
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicyList
  items: null
";
    assert_eq!(objects(text), [("Namespace a".to_owned(), 4), ("Pod a/p".to_owned(), 10)]);
    let parsed = parse("f.yaml", text.as_bytes());
    assert_eq!(parsed.objects[0].content.metadata().namespace, None);
    assert_eq!(parsed.objects[1].source.locate("metadata.namespace").line, 12);
}

#[test]
fn an_item_of_a_list_that_is_no_object_is_an_error() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- metadata: {}\n- 5\n---\nkind: PodList\nitems: 7\n";
    assert_eq!(
        problems(text),
        [
            "error invalid-object: f.yaml:4: File f.yaml: an item of a list is no object: found a map without a kind; \
             expected an object with apiVersion and kind",
            "error invalid-object: f.yaml:5: File f.yaml: an item of a list is no object: found a number (5) without \
             a kind; expected an object with apiVersion and kind",
            "error invalid-object: f.yaml:8: File f.yaml: items: found a number (7); expected a list of objects",
        ]
    );
}

#[test]
fn documents_that_are_no_objects_are_noted_once_for_a_file() {
    assert_eq!(
        problems("---\n---\nreplicas: 5\n---\n- a\n---\njust text\n"),
        [
            "note not-an-object: f.yaml:3: File f.yaml: 3 documents are no Kubernetes objects, this is the first; \
          expected a map with apiVersion and kind"
        ]
    );
}

#[test]
fn a_file_that_is_not_yaml_keeps_the_documents_before_the_error() {
    let text = format!("{POLICY}---\na: b: c\n");
    let parsed = parse("f.yaml", text.as_bytes());
    assert_eq!(parsed.objects.len(), 1);
    let problem = &parsed.problems[0];
    assert_eq!((problem.severity, problem.id), (Severity::Error, INVALID_FILE));
    assert_eq!(problem.location, Some(Location { file: "f.yaml".into(), line: 15 }));
}

#[test]
fn what_is_needed_is_missed() {
    assert_eq!(
        problems(
            "{apiVersion: v1, kind: Pod}\n---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}\n"
        ),
        [
            "error invalid-object: f.yaml:1: Pod default/(no name): metadata.name: the name is missing; expected a name",
            "error invalid-object: f.yaml:3: Deployment default/d: spec: the pod template is missing; \
             expected a value for `template`",
        ]
    );
}

#[test]
fn old_dumps_are_read() {
    let text = POLICY.replace(
        "  namespace: prod",
        "  clusterName: x\n  managedFields: [{time: 7}]\n  creationTimestamp: null",
    );
    assert_eq!(objects(&format!("{text}status: {{}}\n")), [("NetworkPolicy default/api".to_owned(), 1)]);
    let beta =
        "{apiVersion: extensions/v1beta1, kind: Deployment, metadata: {name: d}, spec: {template: {}}}";
    assert_eq!(objects(beta), [("Deployment default/d".to_owned(), 1)]);
}
