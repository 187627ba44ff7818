//! x
use crate::options::KeeperOptions;
pub(crate) fn run(_: &KeeperOptions) -> anyhow::Result<()> { Ok(()) }
