//! A node whose pods Polder looks after: the agent's own dataplane, told what to write by this benchmark.

use std::fs;
use std::path::{Path, PathBuf};

use agent::dataplane::{Dataplane, Options, PodInterface, Role};
use anyhow::{Context, Result};
use datapath::settings::Settings;
use netlab::{Host as _, Pod};
use policy_compiler::object::PodKey;
use policy_compiler::plan::plan_between;
use policy_compiler::tables::Tables;

/// The dataplane of one node, and what it holds.
pub(crate) struct Enforced {
    dataplane: Dataplane,
    pods: Vec<(PodKey, PodInterface)>,
    tables: Tables,
    maps: PathBuf,
}

/// What a pod is called in the tables.
pub(crate) fn key(pod: &Pod) -> PodKey {
    PodKey::new("bench", pod.name())
}

impl Enforced {
    /// Loads programs and makes maps; the pods are on hold until [`Self::change`]. To be called, as everything here, in
    /// the node's namespace.
    pub(crate) fn open(pins: &Path, object: &Path, pods: &[&Pod]) -> Result<Self> {
        let options =
            Options { bpffs: pins.to_owned(), object: Some(object.to_owned()), ..Options::default() };
        let dataplane = Dataplane::open(&options)?;
        let pods = pods.iter().map(|pod| Ok((key(pod), port(pod)?))).collect::<Result<_>>()?;
        let mut enforced = Self { dataplane, pods, tables: Tables::default(), maps: set_of_maps(pins)? };
        enforced.forget_flows()?;
        Ok(enforced)
    }

    /// Where the maps are pinned.
    pub(crate) fn maps(&self) -> &Path {
        &self.maps
    }

    /// Changes what programs are told.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        let mut settings = self.dataplane.settings()?;
        change(&mut settings);
        Ok(self.dataplane.configure(&settings)?)
    }

    /// Brings other tables in force.
    pub(crate) fn change(&mut self, tables: Tables) -> Result<()> {
        let steps = plan_between(&self.tables, &tables, self.dataplane.generation())?;
        self.dataplane.perform(&steps)?;
        self.tables = tables;
        Ok(())
    }

    /// Removes the flows of all pods, by taking the pods away and binding them anew.
    pub(crate) fn forget_flows(&mut self) -> Result<()> {
        let interfaces: Vec<u32> = self.pods.iter().map(|(_, port)| port.interface).collect();
        self.dataplane.remove(&interfaces)?;
        for (pod, port) in &self.pods {
            self.dataplane.bind(pod, port)?;
        }
        Ok(())
    }

    /// Attaches the programs to all pods.
    pub(crate) fn attach(&mut self) -> Result<()> {
        for (_, port) in &self.pods {
            self.dataplane.attach(port.interface, Role::Pod)?;
        }
        Ok(())
    }
}

fn port(pod: &Pod) -> Result<PodInterface> {
    Ok(PodInterface {
        interface: pod.host_interface_index()?,
        mac: pod.mac().0,
        ipv4: Some(pod.ipv4()),
        ipv6: Some(pod.ipv6()),
        link_local: None,
    })
}

/// The one set of maps below a directory of pins (`v` and a version).
fn set_of_maps(pins: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(pins).with_context(|| format!("{}: cannot list it", pins.display()))?;
    let mut sets = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.starts_with('v').then_some(path)
    });
    sets.next()
        .with_context(|| format!("{}: holds no set of maps, whose name would begin with `v`", pins.display()))
}
