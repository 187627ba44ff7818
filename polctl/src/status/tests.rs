use super::*;

/// What an agent says whose node has a pod that is well and an interface that is not.
const STATUS: &str = r#"{
  "node": "n1", "version": "0.1.0", "abi": 7, "started": "2026-01-02T03:04:05Z", "ready": false,
  "reasons": ["an interface is held"], "generation": 12, "policies": 1, "problems": ["bad\u001b[31m.yaml:3: refused"],
  "endpoints": [
    {"pod": "shop/a", "interface": "vetha", "interface_index": 4, "addresses": ["10.0.0.1", "fd00::1"],
     "state": "enforced", "ingress": 7, "egress": null, "why": null},
    {"pod": null, "interface": "vethb", "interface_index": 5, "addresses": [], "state": "failed", "ingress": null,
     "egress": null, "why": "no program"}],
  "outside": [{"interface": "eth0", "interface_index": 2, "kind": "uplink"}],
  "proxies": ["polder1", "polder0"],
  "hooks": [{"interface": "vetha", "hook": "ingress", "kind": "tcx", "position": 0, "ok": true},
            {"interface": "vetha", "hook": "egress", "kind": "clsact", "position": null, "ok": false}],
  "maps": [{"name": "rules", "used": 999, "size": 1000}], "counters": [{"name": "ingress rule_denies", "count": 3}],
  "reconcile": {"when": "2026-01-02T03:04:06Z", "found": 1, "repaired": 1},
  "shares": [{"endpoint": "shop/a", "used": 1, "limit": 2, "refused": 0}]}"#;

fn status() -> Status {
    serde_json::from_str(STATUS).unwrap()
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn the_table_says_pods_states_policies_and_problems() {
    assert_eq!(
        plain(&text::text(&status(), false)),
        "\
node n1: NOT READY, generation 12, 1 policy
  an interface is held
polder-agent 0.1.0, ABI 7, since 2026-01-02T03:04:05.000Z

POD      ADDRESSES           STATE      INGRESS   EGRESS   INTERFACE   WHY
shop/a   10.0.0.1, fd00::1   enforced   yes       no       vetha
-        -                   failed     no        no       vethb       no program

problems:
  bad\\u{1b}[31m.yaml:3: refused
"
    );
}

#[test]
fn wide_adds_what_the_kernel_holds_and_has_counted() {
    let text = plain(&text::text(&status(), true));
    let (_, more) = text.split_once("refused\n").unwrap();
    assert_eq!(
        more,
        "
OUTSIDE   KIND
eth0      uplink

PROXY     TAKES
polder1   new connections
polder0   what it has

INTERFACE   HOOK      BY       POSITION   STATE
vetha       ingress   tcx      0          ok
vetha       egress    clsact   ?          NOT FIRST

MAP     USED   SIZE   FULL
rules   999    1000   99.9 %

COUNTER               PACKETS
ingress rule_denies   3

FLOWS OF   USED   LIMIT   REFUSED
shop/a     1      2       0

kernel compared with intent at 2026-01-02T03:04:06.000Z: 1 difference, 1 put right
"
    );
}

#[test]
fn an_agent_is_well_if_it_is_ready_and_no_interface_failed() {
    let mut status = status();
    assert!(!is_well(&status));
    status.ready = true;
    assert!(!is_well(&status), "an interface failed");
    status.endpoints.pop();
    assert!(is_well(&status));
    assert!(plain(&text::text(&status, false)).starts_with("node n1: ready, generation 12, 1 policy\n"));
    status.endpoints.clear();
    status.policies = 2;
    let text = plain(&text::text(&status, false));
    assert!(text.contains("2 policies\n") && text.contains("no pod's interface is known"), "{text}");
}
