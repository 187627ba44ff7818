//! Machines outside the cluster: clients, routers, attackers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::Result;

use crate::host::Host;
use crate::lab::Shared;
use crate::namespace::Namespace;

/// A machine that is no node and no pod.
#[derive(Debug, Clone)]
pub struct Outside {
    name: String,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    namespace: Arc<Namespace>,
}

impl Outside {
    pub(crate) fn create(lab: &Shared, name: &str, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> Result<Self> {
        let settings = [("net/ipv6/conf/all/disable_ipv6", "0"), ("net/ipv6/conf/default/accept_dad", "0")];
        let namespace = lab.namespace(name, &settings)?;
        Ok(Self { name: name.to_owned(), ipv4, ipv6, namespace })
    }
}

impl Host for Outside {
    fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    fn ipv6(&self) -> Ipv6Addr {
        self.ipv6
    }
}
