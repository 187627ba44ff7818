//! The modules that a check needs, with what they depend on, in an order in which a kernel takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// Devices and hooks of a node's datapath, where they are not built into the kernel.
pub(super) const NEEDED: [&str; 5] = ["veth", "sch_ingress", "cls_bpf", "bridge", "vxlan"];

/// How modules are packed, and with what they are unpacked.
const PACKED: [(&str, &[&str]); 3] =
    [("xz", &["xz", "-dc"]), ("zst", &["zstd", "-dqc"]), ("gz", &["gzip", "-dc"])];

/// A module, unpacked.
pub(super) struct Module {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// Every module of a kernel by name: a file, or none if it is built in.
type Tree = BTreeMap<String, Option<PathBuf>>;

/// The modules to load, each behind those that it depends on.
pub(super) fn in_order(folder: &Path, needed: &[&str]) -> Result<Vec<Module>> {
    let tree = tree(folder)?;
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    for name in needed {
        add(name, &tree, &mut seen, &mut order)?;
    }
    Ok(order)
}

/// Adds a module behind its dependencies. It ends, as no module is looked at twice.
fn add(name: &str, tree: &Tree, seen: &mut BTreeSet<String>, order: &mut Vec<Module>) -> Result<()> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let file = tree.get(name).with_context(|| format!("the kernel has no module {name}"))?;
    let Some(file) = file else {
        return Ok(());
    };
    let bytes = unpack(file)?;
    for dependency in dependencies(&bytes) {
        add(&dependency, tree, seen, order).with_context(|| format!("{name} needs {dependency}"))?;
    }
    order.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

fn tree(folder: &Path) -> Result<Tree> {
    let list = folder.join("modules.builtin");
    let built_in = fs::read_to_string(&list).with_context(|| format!("{} cannot be read", list.display()))?;
    let mut tree: Tree =
        built_in.lines().filter_map(|line| Some((module_name(Path::new(line))?, None))).collect();
    let mut folders = vec![folder.join("kernel")];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            // Not through links, so the walk ends.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Some(name) = module_name(&entry.path()) {
                tree.insert(name, Some(entry.path()));
            }
        }
    }
    Ok(tree)
}

/// The name of the module in a file: the kernel makes no difference between `-` and `_`.
fn module_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let (name, packing) = name.split_once(".ko")?;
    let known = packing.is_empty() || PACKED.iter().any(|(kind, _)| packing.strip_prefix('.') == Some(kind));
    known.then(|| name.replace('-', "_"))
}

fn unpack(file: &Path) -> Result<Vec<u8>> {
    let extension = file.extension().unwrap_or_default();
    let Some((_, words)) = PACKED.iter().find(|(kind, _)| extension == *kind) else {
        return fs::read(file).with_context(|| format!("{} cannot be read", file.display()));
    };
    let program = process::find(words[0])
        .with_context(|| format!("{} is packed, and there is no {}", file.display(), words[0]))?;
    let output = Command::new(program).args(&words[1..]).arg(file).output()?;
    ensure!(
        output.status.success(),
        "{} cannot be unpacked: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(output.stdout)
}

/// What a module says in its section `.modinfo`: strings that end with zero, one of them `depends=a,b`.
fn dependencies(module: &[u8]) -> Vec<String> {
    let line = module.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_by_its_file_whatever_it_is_packed_with() {
        let name = |file: &str| module_name(Path::new(file));
        assert_eq!(name("kernel/net/sched/cls_bpf.ko.xz").as_deref(), Some("cls_bpf"));
        assert_eq!(name("a-b.ko").as_deref(), Some("a_b"));
        assert_eq!((name("modules.order"), name("x.ko.sig")), (None, None));
    }

    #[test]
    fn what_a_module_depends_on_is_a_string_of_its_own() {
        assert_eq!(
            dependencies(b"\x7fELF\0softdepends=x\0depends=llc,stp-a\0name=bridge\0"),
            ["llc", "stp_a"]
        );
        assert!(dependencies(b"\0depends=\0").is_empty() && dependencies(b"").is_empty());
    }

    #[test]
    fn a_module_comes_behind_what_it_depends_on_and_each_once() {
        let folder = std::env::temp_dir().join(format!("polder-modules-{}", std::process::id()));
        let kernel = folder.join("kernel/net");
        fs::create_dir_all(&kernel).unwrap();
        for (name, depends) in [("a", "b,c"), ("b", "c"), ("c", "built_in"), ("e", "f")] {
            fs::write(kernel.join(format!("{name}.ko")), format!("\0depends={depends}\0")).unwrap();
        }
        fs::write(folder.join("modules.builtin"), "kernel/net/built-in.ko\n").unwrap();
        let names = |needed: &[&str]| -> Result<Vec<String>> {
            Ok(in_order(&folder, needed)?.into_iter().map(|module| module.name).collect())
        };
        let (found, missing) = (names(&["a", "b"]), names(&["e"]));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.unwrap(), ["c", "b", "a"]);
        assert_eq!(format!("{:#}", missing.unwrap_err()), "e needs f: the kernel has no module f");
    }
}
