//! What a container runtime gives the plugin: environment and standard input.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent_api::wait::Pod;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Code, Failure, VERSIONS};

/// The most that may be waited for: the agent itself answers within 25 seconds.
pub(crate) const MOST_SECONDS: u64 = 20;

/// The plugin's part of the network configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Configuration {
    /// The version in which the result is to be.
    pub(crate) cni_version: String,
    /// The agent's socket.
    #[serde(default = "socket")]
    pub(crate) socket: PathBuf,
    /// How long to wait.
    #[serde(default = "timeout")]
    pub(crate) timeout_seconds: u64,
    /// What the plugins before this one made.
    pub(crate) prev_result: Option<Value>,
}

fn socket() -> PathBuf {
    agent_api::SOCKET.into()
}

fn timeout() -> u64 {
    10
}

impl Configuration {
    /// Reads standard input's text.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        let wrong =
            |details: String| Failure::new(Code::Decode, "the network configuration cannot be read", details);
        let configuration: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if !VERSIONS.contains(&configuration.cni_version.as_str()) {
            return Err(Failure::new(
                Code::Version,
                "the network configuration has a version that is not supported",
                format!(
                    "cniVersion: found {:?}, expected one of {}",
                    configuration.cni_version,
                    VERSIONS.join(", ")
                ),
            ));
        }
        if !(1..=MOST_SECONDS).contains(&configuration.timeout_seconds) {
            return Err(Failure::new(
                Code::Configuration,
                "the network configuration is wrong",
                format!(
                    "timeoutSeconds: found {}, expected 1 to {MOST_SECONDS}",
                    configuration.timeout_seconds
                ),
            ));
        }
        Ok(configuration)
    }

    /// How long to wait.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// What the plugins before made.
    pub(crate) fn previous(&self) -> Result<&Value, Failure> {
        self.prev_result.as_ref().ok_or_else(|| {
            Failure::new(
                Code::Configuration,
                "there is no network to wait for",
                "prevResult: found none, expected the result of the plugins before: polder-cni is the last of a chain",
            )
        })
    }

    /// The addresses that the plugins before gave to the pod.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        #[derive(Deserialize)]
        struct Made {
            #[serde(default)]
            ips: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            address: IpNet,
        }
        let previous = self.previous()?;
        let wrong = |details: String| Failure::new(Code::Decode, "prevResult cannot be read", details);
        let made = Made::deserialize(previous).map_err(|error| wrong(error.to_string()))?;
        let mut addresses: Vec<IpAddr> = made.ips.iter().map(|ip| ip.address.addr()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(Failure::new(
                Code::Configuration,
                "the pod has no address",
                "prevResult.ips: found none, expected those of the pod",
            ));
        }
        Ok(addresses)
    }
}

/// The pod that `CNI_ARGS` names: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=...`.
pub(crate) fn pod(arguments: &str) -> Result<Pod, Failure> {
    let pairs: BTreeMap<&str, &str> = arguments.split(';').filter_map(|pair| pair.split_once('=')).collect();
    let get = |key: &str| pairs.get(key).copied().filter(|value| !value.is_empty());
    let needed = |key: &str| {
        get(key).ok_or_else(|| {
            Failure::new(
                Code::Environment,
                "it is not known whose network this is",
                format!("CNI_ARGS: no {key}; expected what container runtimes say of Kubernetes' pods"),
            )
        })
    };
    let (namespace, name) = (needed("K8S_POD_NAMESPACE")?, needed("K8S_POD_NAME")?);
    Ok(Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        // Runtimes before 2021 do not say it.
        uid: get("K8S_POD_UID").unwrap_or_default().to_owned(),
    })
}
