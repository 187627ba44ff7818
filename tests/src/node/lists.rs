//! Lists of rules about requests: those that an agent is to publish, and those that it does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use agent_api::world::Document;
use anyhow::{Context, Result, anyhow, ensure};
use manifests::gather::Loaded;
use manifests::parse::parse;
use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::lower::lower;

/// Contents by file name.
pub type Lists = BTreeMap<String, Vec<u8>>;

/// As the compiler makes them of these manifests, for a node's pods.
pub fn compiled(node: &str, documents: &[Document]) -> Result<Lists> {
    let loaded =
        Loaded::gather(documents.iter().map(|document| parse(&document.name, document.text.as_bytes())));
    ensure!(!loaded.has_errors(), "{:?}", loaded.problems);
    let world = loaded.world();
    let lowered = world.policies.iter().map(|(policy, _)| {
        let lowered = lower(policy, None).map_err(|problems| anyhow!("{problems:?}"))?;
        Ok(lowered.policy.into())
    });
    let policies = lowered.collect::<Result<Vec<_>>>()?;
    let compiler = Compiler::compile(Scope::Node(node.into()), &world.cluster, policies);
    let mut lists = Lists::new();
    for (rule_set, rows) in &compiler.tables().rules {
        let of_set = rows.lists.iter();
        lists.extend(of_set.map(|(list, content)| {
            (format!("{:012x}-{list:08x}", rule_set.get()), content.bytes().to_vec())
        }));
    }
    Ok(lists)
}

/// As they are in the directory.
pub fn published(directory: &Path) -> Result<Lists> {
    let mut lists = Lists::new();
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        lists.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(lists)
}
