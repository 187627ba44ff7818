//! The definitions of our own kinds: what is in `deploy/crds` is made of the types that are read, and a real API server refuses
//! with them what lowering refuses.

#![expect(
    clippy::unwrap_used,
    reason = "objects are written here, and a server that cannot be asked has failed the test"
)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use kubelab::ApiServer;
use policy_compiler::api::PolicyObject;
use policy_compiler::api::definition::definitions;
use policy_compiler::lower::lower;
use serde_json::{Value, json};

/// With `POLDER_WRITE=1` they are written.
#[test]
fn the_definitions_in_deploy_are_of_these_types() {
    for (name, definition) in definitions() {
        let path = format!("{}/../deploy/crds/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        // JSON is YAML, and needs no writer of its own.
        let (mark, text) = (concat!("@", "generated"), serde_json::to_string_pretty(&definition).unwrap());
        let wanted = format!(
            "# {mark} from the types in policy-compiler/src/api; `tests/tests/definitions.rs` writes it.\n{text}\n"
        );
        if std::env::var_os("POLDER_WRITE").is_some_and(|write| write == "1") {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{path} is not current; POLDER_WRITE=1 cargo test -p tests --test definitions writes it"
        );
    }
}

/// A rule with these fields, in a policy of each kind.
fn policies(fields: &Value) -> [(&'static str, Value); 2] {
    let mut rule = json!({"action": "Allow"});
    for (field, value) in fields.as_object().unwrap() {
        rule[field] = value.clone();
    }
    let own = json!({"subject": {"podSelector": {}}, "ingress": [rule]});
    let wide = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "ingress": [rule]});
    [("PolderPolicy", own), ("ClusterPolderPolicy", wide)]
}

/// Rules, and whether they are right.
fn rules() -> Vec<(Value, bool)> {
    let http = |fields: Value| json!({"http": [fields]});
    let tcp = json!([{"tcp": {"destinationPort": {"number": 80}}}]);
    vec![
        (json!({}), true),
        (json!({"action": "Accept"}), false),
        (json!({"from": []}), false),
        (json!({"from": [{"networks": ["10.0.0.0/8"]}], "protocols": tcp}), true),
        (json!({"from": [{"nodes": {}, "networks": ["10.0.0.0/8"]}]}), false),
        (json!({"protocols": [{"udp": {"destinationPort": {"number": 53}}}]}), true),
        (json!({"protocols": [{"udp": {"destinationPort": {"number": 53}}}], "http": [{}]}), false),
        (json!({"protocols": [{"tcp": {"destinationPort": {"range": {"start": 9, "end": 9}}}}]}), false),
        (http(json!({"methods": ["GET"], "path": {"prefix": "/a"}})), true),
        (http(json!({"path": {"exact": "/a", "regex": "/b"}})), false),
        (http(json!({"path": {}})), false),
        (http(json!({"path": {"prefix": "a"}})), false),
        (http(json!({"headers": [{"name": "X-A", "present": true}]})), true),
        (http(json!({"headers": [{"name": "x_a", "present": true}]})), false),
        (http(json!({"headers": [{"name": "a"}]})), false),
        (http(json!({"headers": [{"name": "a", "present": false}]})), false),
        (json!({"http": []}), false),
        (json!({"grpc": [{"service": "a.B"}]}), true),
        (json!({"tls": {"serverNames": ["a.b"]}}), true),
        (json!({"tls": {"serverNames": []}}), false),
        (json!({"tls": {"serverNames": ["a.b"]}, "http": [{}]}), false),
        (json!({"action": "Deny", "from": [{"domainNames": ["a.b"]}]}), false),
    ]
}

fn is_lowered(kind: &str, spec: &Value) -> bool {
    let object = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    let object = match kind {
        "PolderPolicy" => PolicyObject::PolderPolicy(serde_json::from_value(object).unwrap()),
        _ => PolicyObject::ClusterPolderPolicy(serde_json::from_value(object).unwrap()),
    };
    lower(&object, None).is_ok()
}

#[test]
fn lowering_takes_the_rules_that_are_right_and_no_others() {
    for (rule, right) in rules() {
        for (kind, spec) in policies(&rule) {
            assert_eq!(is_lowered(kind, &spec), right, "{kind} {rule}");
        }
    }
}

#[test]
fn a_real_api_server_takes_and_refuses_the_same() {
    let Some(server) = ApiServer::start_or_skip("a_real_api_server_takes_and_refuses_the_same") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = server.client().await.unwrap();
        let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for (_, definition) in definitions() {
            let definition: CustomResourceDefinition = serde_json::from_value(definition).unwrap();
            kinds.create(&PostParams::default(), &definition).await.unwrap();
        }
        let mut number = 0;
        for (rule, right) in rules() {
            for (kind, spec) in policies(&rule) {
                number += 1;
                let created = create(&client, kind, &format!("p{number}"), &spec).await;
                assert_eq!(created.is_ok(), right, "{kind} {rule}: {created:?}");
            }
        }
    });
}

/// Creates a policy; again while the server does not serve its kind yet.
async fn create(client: &Client, kind: &str, name: &str, spec: &Value) -> Result<DynamicObject, kube::Error> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("polder.dev", "v1alpha1", kind));
    let api: Api<DynamicObject> = if kind == "PolderPolicy" {
        Api::namespaced_with(client.clone(), "default", &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    let object =
        json!({"apiVersion": "polder.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    for _ in 0..100 {
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            answer => return answer,
        }
    }
    api.create(&PostParams::default(), &object).await
}
