//! The node's network configuration, with the plugin behind it. Text in, text out.
//!
//! The configuration of the node's own CNI is left as it is. A copy of it with one more plugin stands beside it, under a name
//! that runtimes read first: so taking it out again is removing a file, and what others write in theirs is never lost.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// Before whatever begins with a digit or a letter: runtimes take the first by name, and `-` sorts before both.
pub(crate) const FILE: &str = "0-polder.conflist";

/// The type, which is the program's name.
pub(crate) const PLUGIN: &str = "polder-cni";

/// What is put at the end of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) socket: PathBuf,
    pub(crate) timeout_seconds: u64,
}

/// The file among those of a folder that runtimes would take if ours were not there.
pub(crate) fn source<'a>(names: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>> {
    let is_configuration = |name: &&str| {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("conflist" | "conf" | "json")) && *name != FILE
    };
    let first = names.filter(is_configuration).min();
    if let Some(first) = first
        && first < FILE
    {
        bail!(
            "{first} comes before {FILE} by name; expected a name that begins with a digit or a letter and is not {FILE}"
        );
    }
    Ok(first)
}

/// A configuration with the plugin at its end.
pub(crate) fn chained(source: &str, link: &Link) -> Result<String> {
    let configuration: Value = serde_json::from_str(source).context("it is no JSON")?;
    let Value::Object(configuration) = configuration else { bail!("it is no JSON object") };
    let mut list = list(configuration)?;
    let name = list.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        bail!("name: found none, expected the network's");
    }
    let Some(Value::Array(plugins)) = list.get_mut("plugins") else {
        bail!("plugins: found none, expected a list");
    };
    let is_ours = |plugin: &Value| plugin.get("type").and_then(Value::as_str) == Some(PLUGIN);
    plugins.retain(|plugin| !is_ours(plugin));
    if plugins.is_empty() {
        bail!("plugins: found none, expected those that make the pods' network");
    }
    plugins.push(json!({
        "type": PLUGIN,
        "socket": link.socket,
        "timeoutSeconds": link.timeout_seconds,
    }));
    let mut text = serde_json::to_string_pretty(&Value::Object(list)).context("writing it as JSON")?;
    text.push('\n');
    Ok(text)
}

/// One plugin's configuration as a list of one, as runtimes make it.
fn list(mut configuration: Map<String, Value>) -> Result<Map<String, Value>> {
    if configuration.contains_key("plugins") {
        return Ok(configuration);
    }
    if !configuration.contains_key("type") {
        bail!("found neither plugins nor type, expected a CNI configuration");
    }
    let mut list = Map::new();
    for key in ["cniVersion", "name"] {
        if let Some(value) = configuration.get(key) {
            list.insert(key.to_owned(), value.clone());
        }
    }
    configuration.remove("cniVersion");
    list.insert("plugins".to_owned(), Value::Array(vec![Value::Object(configuration)]));
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLANNEL: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}"#;

    fn link() -> Link {
        Link { socket: "/run/polder/agent.sock".into(), timeout_seconds: 10 }
    }

    #[test]
    fn the_plugin_is_put_behind_all_others_and_nothing_else_changes() {
        let chained: Value = serde_json::from_str(&chained(FLANNEL, &link()).unwrap()).unwrap();
        let mut expected: Value = serde_json::from_str(FLANNEL).unwrap();
        let ours = json!({"type": "polder-cni", "socket": "/run/polder/agent.sock", "timeoutSeconds": 10});
        expected["plugins"].as_array_mut().unwrap().push(ours);
        assert_eq!(chained, expected);
    }

    #[test]
    fn a_plugin_that_is_there_already_is_put_last_once() {
        let once = chained(FLANNEL, &link()).unwrap();
        assert_eq!(chained(&once, &link()).unwrap(), once);
    }

    #[test]
    fn one_plugin_alone_becomes_a_list() {
        let alone =
            r#"{"cniVersion": "1.0.0", "name": "net", "type": "ptp", "ipam": {"type": "host-local"}}"#;
        let chained: Value = serde_json::from_str(&chained(alone, &link()).unwrap()).unwrap();
        assert_eq!(chained["cniVersion"], "1.0.0");
        assert_eq!(chained["name"], "net");
        assert_eq!(
            chained["plugins"][0],
            json!({"name": "net", "type": "ptp", "ipam": {"type": "host-local"}})
        );
        assert_eq!(chained["plugins"][1]["type"], "polder-cni");
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("", "it is no JSON"),
            ("[]", "it is no JSON object"),
            ("{}", "found neither plugins nor type, expected a CNI configuration"),
            (r#"{"name": "n", "plugins": {}}"#, "plugins: found none, expected a list"),
            (
                r#"{"name": "n", "plugins": []}"#,
                "plugins: found none, expected those that make the pods' network",
            ),
            (r#"{"plugins": [{"type": "ptp"}]}"#, "name: found none, expected the network's"),
        ] {
            assert_eq!(chained(text, &link()).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn the_first_file_by_name_is_the_source_and_ours_would_come_before_any() {
        let names = ["README", "87-podman.conflist", "10-flannel.conflist", FILE, "00-multus.conf", "0.bak"];
        assert_eq!(source(names.into_iter()).unwrap(), Some("00-multus.conf"));
        assert_eq!(source([FILE, "x.txt"].into_iter()).unwrap(), None);
        for other in ["00-a.conf", "05-cilium.conflist", "1.conf", "a.json", "A.conf"] {
            assert!(FILE < other);
        }
        let error = source(["!a.conf"].into_iter()).unwrap_err().to_string();
        assert!(error.starts_with("!a.conf comes before 0-polder.conflist by name"), "{error}");
    }
}
