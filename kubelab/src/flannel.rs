//! What flannel's build needs besides its module: stand-ins for a cloud provider's library that is large, not served by
//! every module proxy, and never called here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The library's modules below this name.
const LIBRARY: &str = "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud";

/// Path and text of each file.
const FILES: [(&str, &str); 5] = [
    ("common/go.mod", include_str!("../stand-ins/common/go.mod.txt")),
    ("common/common.go", include_str!("../stand-ins/common/common.go")),
    ("common/errors/errors.go", include_str!("../stand-ins/common/errors/errors.go")),
    ("vpc/go.mod", include_str!("../stand-ins/vpc/go.mod.txt")),
    ("vpc/v20170312/vpc.go", include_str!("../stand-ins/vpc/v20170312/vpc.go")),
];

/// Writes them into a module's folder, and gives the lines of its `go.mod` that put them in the library's place.
pub(crate) fn write_stand_ins(module: &Path) -> Result<String> {
    for (name, text) in FILES {
        let path = module.join("stand-ins").join(name);
        let folder = path.parent().unwrap_or(module);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let replaced =
        ["common", "vpc"].map(|name| format!("\nreplace {LIBRARY}/{name} => ./stand-ins/{name}\n"));
    Ok(replaced.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stand_in_is_named_as_the_module_that_it_replaces() {
        for (name, text) in FILES.iter().filter(|(name, _)| name.ends_with("go.mod")) {
            let folder = name.trim_end_matches("/go.mod");
            assert!(text.starts_with(&format!("module {LIBRARY}/{folder}\n")), "{name}: {text}");
        }
    }
}
