//! The agent that a verb asks: the one of this node at its socket, or that of any node through the API server.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use agent_api::client::{Client, Error};
use agent_api::frame::LineError;

use crate::agents::Agents;
use crate::clean::clean;
use crate::cluster;

/// Which agent is asked.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "agent")]
pub(crate) struct Args {
    /// The socket of the agent on this node [default: /run/polder/agent.sock]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["node", "cluster"])]
    pub(crate) socket: Option<PathBuf>,
    /// The agent of this node of the cluster, from anywhere: in its pod, as `kubectl exec` does
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) cluster: cluster::Args,
}

/// Where the agent is; it stays connected as long as this is kept.
pub(crate) struct Place {
    name: String,
    _agents: Option<Agents>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Args {
    /// Whether agents are looked for in the cluster: asked for, or what a plugin of kubectl is expected to do.
    pub(crate) fn is_remote(&self) -> bool {
        let asked =
            self.node.is_some() || self.cluster.kubeconfig.is_some() || self.cluster.context.is_some();
        asked || (self.socket.is_none() && crate::as_kubectl_plugin())
    }

    /// The socket on this node.
    pub(crate) fn socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(agent_api::SOCKET))
    }

    /// Connects to the one agent that is meant.
    pub(crate) fn connect(&self) -> anyhow::Result<(Client, Place)> {
        if !self.is_remote() {
            let place = Place { name: self.socket().display().to_string(), _agents: None };
            return Ok((connect(self.socket())?, place));
        }
        let agents = Agents::find(&self.cluster)?;
        let Some(node) = self.node.clone() else {
            let known: Vec<&str> = agents.nodes().collect();
            anyhow::bail!(
                "which agent is to be asked is not said; expected --node and one of: {}",
                known.join(", ")
            );
        };
        let client = agents.connect(&node)?;
        Ok((client, Place { name: format!("node {node}"), _agents: Some(agents) }))
    }
}

/// Connects to a socket; the error says what was found there, and what to do.
pub(crate) fn connect(socket: &Path) -> anyhow::Result<Client> {
    Client::connect(socket).map_err(|error| failure(&socket.display(), &error))
}

/// What an agent that does not answer means to a user.
pub(crate) fn failure(place: &dyn fmt::Display, error: &Error) -> anyhow::Error {
    let Error::Connection { error: LineError::Io(io), doing, .. } = error else {
        return anyhow::anyhow!("{}", clean(&format!("at {place}: {error}")));
    };
    let found = match io.kind() {
        ErrorKind::NotFound => {
            "there is no such file; start polder-agent on this node, or name its socket with --socket".to_owned()
        }
        ErrorKind::ConnectionRefused => {
            "the connection is refused: nobody listens on this socket, or it is none; start polder-agent again, or \
             name its socket with --socket"
                .to_owned()
        }
        ErrorKind::PermissionDenied => "permission denied: are you root? only root may ask the agent".to_owned(),
        _ => format!("{error}; look at the agent's log"),
    };
    let doing =
        if *doing == "connecting" { "no agent answers" } else { "the agent does not answer any more" };
    anyhow::anyhow!("{}", clean(&format!("{doing} at {place}: {found}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_not_there_is_an_error_that_says_where_and_what_to_do() {
        let folder = std::env::temp_dir().join(format!("polctl-agent-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let said =
            |path: &Path| connect(path).unwrap_err().to_string().replace(&path.display().to_string(), "S");
        let missing = said(&folder.join("missing"));
        let left = folder.join("left");
        drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
        let refused = said(&left);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            missing,
            "no agent answers at S: there is no such file; start polder-agent on this node, or name its socket with \
             --socket"
        );
        assert_eq!(
            refused,
            "no agent answers at S: the connection is refused: nobody listens on this socket, or it is none; start \
             polder-agent again, or name its socket with --socket"
        );
        let denied = Error::Connection {
            path: "S".into(),
            doing: "connecting",
            error: LineError::Io(ErrorKind::PermissionDenied.into()),
        };
        assert_eq!(
            failure(&"S", &denied).to_string(),
            "no agent answers at S: permission denied: are you root? only root may ask the agent"
        );
        let version = Error::Version { protocol: 9, agent: "2.0\u{1b}".to_owned() };
        let text = failure(&"S", &version).to_string();
        assert!(text.starts_with("at S: agent 2.0\\u{1b} speaks version 9"), "{text}");
    }
}
