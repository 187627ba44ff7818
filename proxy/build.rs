//! Embeds the proxy's BPF object, which is beside the agent's that `POLDER_BPF_OBJECT` names; without it the proxy asks for one
//! when it starts.

use std::path::Path;
use std::{env, fs};

/// The name of the binary in `bpf/Cargo.toml`.
const NAME: &str = "polder-accept";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(embedded_object)");
    println!("cargo::rerun-if-env-changed=POLDER_BPF_OBJECT");
    println!("cargo::rerun-if-changed=build.rs");
    let Some(object) = env::var_os("POLDER_BPF_OBJECT").filter(|path| !path.is_empty()) else { return };
    let object = Path::new(&object).with_file_name(NAME);
    println!("cargo::rerun-if-changed={}", object.display());
    let Some(folder) = env::var_os("OUT_DIR") else {
        println!("cargo::error=cargo gives build scripts OUT_DIR, and there is none");
        return;
    };
    match fs::copy(&object, Path::new(&folder).join("polder-accept.bpf.o")) {
        Ok(_) => println!("cargo::rustc-cfg=embedded_object"),
        Err(error) => println!(
            "cargo::error=beside POLDER_BPF_OBJECT there should be {}, which cannot be copied: {error}; `cargo xtask bpf` \
             builds both",
            object.display()
        ),
    }
}
