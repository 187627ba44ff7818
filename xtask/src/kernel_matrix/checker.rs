//! `kernel-check` as a static binary: under emulation it is alone, without any library.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::static_build;

const PACKAGE: &str = "kernel-check";

/// Builds it and gives its path.
pub(super) fn build(root: &Path) -> Result<PathBuf> {
    Ok(static_build::build(root, &[PACKAGE], &[])?.join(PACKAGE))
}
