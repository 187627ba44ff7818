//! What `deploy/manifests` holds.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The objects of one of its files.
pub fn objects(file: &str) -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests").join(file);
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let mut objects = Vec::new();
    for document in manifests::document::read(file, &bytes) {
        let document = document.map_err(|problem| anyhow::anyhow!("{file}: {problem:?}"))?;
        objects.push(document.to_value());
    }
    objects.retain(|value| !value.is_null());
    Ok(objects)
}
