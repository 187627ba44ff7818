//! `cargo xtask demo --files`: polctl on the examples, without a cluster.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Programs;

/// One command of the demo.
struct Scene {
    title: &'static str,
    /// Arguments of polctl.
    arguments: &'static [&'static str],
    /// What polctl has to answer; by its convention 1 says that a difference or a broken expectation was found.
    exit_code: i32,
}

const SCENES: [Scene; 8] = [
    Scene {
        title: "Who may talk to whom in the shop",
        arguments: &["connectivity", "-f", "examples/shop", "-o", "matrix"],
        exit_code: 0,
    },
    Scene {
        title: "Why the cart may charge a card",
        arguments: &["explain", "cart", "payments", "-n", "shop", "--port", "https", "-f", "examples/shop"],
        exit_code: 0,
    },
    Scene {
        title: "Why the catalog may not, what comes closest to allowing it, and the smallest change that would",
        arguments: &[
            "explain",
            "catalog",
            "payments",
            "-n",
            "shop",
            "--port",
            "https",
            "-f",
            "examples/shop",
        ],
        exit_code: 1,
    },
    Scene {
        title: "Three tiers: why one tenant does not reach another that opened itself to all",
        arguments: &["explain", "a-web/web", "b-web/web", "--port", "8080", "-f", "examples/multi-tenant"],
        exit_code: 1,
    },
    Scene {
        title: "What the next version of the shop would open and close, and by which rules",
        arguments: &["diff", "-f", "examples/shop", "-f", "examples/shop-next"],
        exit_code: 1,
    },
    Scene {
        title: "What a reviewer would want to hear of it",
        arguments: &["check", "-f", "examples/shop-next"],
        exit_code: 0,
    },
    Scene {
        title: "Unit tests of policies: all pass",
        arguments: &["test", "examples/dual-stack/policy-tests.yaml"],
        exit_code: 0,
    },
    Scene {
        title: "The shop's tests against its next version: what it breaks",
        arguments: &["test", "examples/shop/policy-tests.yaml", "-f", "examples/shop-next"],
        exit_code: 1,
    },
];

/// Plays every scene, and fails if one ends otherwise than it should.
pub(super) fn run(root: &Path, programs: Programs) -> Result<()> {
    let polctl = programs.of(&["polctl"], root)?.join("polctl");
    let mut wrong = Vec::new();
    for (number, scene) in SCENES.iter().enumerate() {
        let typed = scene.arguments.join(" ");
        println!("\n-- {}. {}\n$ polctl {typed}", number + 1, scene.title);
        let status = Command::new(&polctl).current_dir(root).args(scene.arguments).status();
        let code = status.with_context(|| format!("cannot start {}", polctl.display()))?.code();
        if code != Some(scene.exit_code) {
            wrong.push(format!("`polctl {typed}` ended with {code:?} instead of {}", scene.exit_code));
        }
    }
    if wrong.is_empty() {
        println!("\ndemo: all {} commands ended as they should", SCENES.len());
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_reads_nothing_but_examples() {
        for scene in &SCENES {
            let given = scene.arguments.iter().zip(scene.arguments.iter().skip(1));
            let mut paths: Vec<&str> =
                given.filter(|(flag, _)| **flag == "-f").map(|(_, path)| *path).collect();
            paths.extend(scene.arguments.iter().filter(|argument| Path::new(argument).extension().is_some()));
            assert!(!paths.is_empty(), "{}", scene.title);
            assert!(paths.iter().all(|path| path.starts_with("examples/")), "{}", scene.title);
        }
    }
}
