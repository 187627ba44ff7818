//! The agent of this node, for the verbs that ask it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use agent_api::client::{Client, Error};
use agent_api::frame::LineError;

use crate::clean::clean;

/// Where the agent listens.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "agent")]
pub(crate) struct Args {
    /// The socket of the agent on this node
    #[arg(long, value_name = "PATH", default_value = agent_api::SOCKET)]
    pub(crate) socket: PathBuf,
}

/// Connects; the error says what was found there, and what to do.
pub(crate) fn connect(socket: &Path) -> anyhow::Result<Client> {
    Client::connect(socket).map_err(|error| failure(socket, &error))
}

/// What an agent that does not answer means to a user.
pub(crate) fn failure(socket: &Path, error: &Error) -> anyhow::Error {
    let Error::Connection { error: LineError::Io(io), doing, .. } = error else {
        return anyhow::anyhow!("{}", clean(&format!("at {}: {error}", socket.display())));
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
    anyhow::anyhow!("{}", clean(&format!("{doing} at {}: {found}", socket.display())))
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
            failure(Path::new("S"), &denied).to_string(),
            "no agent answers at S: permission denied: are you root? only root may ask the agent"
        );
        let version = Error::Version { protocol: 9, agent: "2.0\u{1b}".to_owned() };
        let text = failure(Path::new("S"), &version).to_string();
        assert!(text.starts_with("at S: agent 2.0\\u{1b} speaks version 9"), "{text}");
    }
}
