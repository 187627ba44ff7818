//! `polctl relay`: standard input and output as a connection to the agent of this node. How [`crate::agents`] reaches it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;

/// Standard input and output as a connection to the agent of this node
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The socket of the agent on this node
    #[arg(long, value_name = "PATH", default_value = agent_api::SOCKET)]
    socket: PathBuf,
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let place = || format!("the agent's socket {}", args.socket.display());
    let mut socket = UnixStream::connect(&args.socket).with_context(place)?;
    let mut requests = socket.try_clone().with_context(place)?;
    thread::spawn(move || {
        // Whichever way it ends, nothing more is asked: the end of the answers ends this process.
        let _ = carry(&mut io::stdin().lock(), &mut requests);
        let _ = requests.shutdown(Shutdown::Both);
    });
    // Lines are passed on when they are whole.
    carry(&mut socket, &mut io::stdout().lock()).with_context(place)?;
    Ok(ExitCode::SUCCESS)
}

/// The types are hidden from `io::copy`: of a pipe and a socket it makes a splice(2), and that keeps what it has until more
/// comes.
fn carry(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    io::copy(from, to)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_line_is_passed_on_before_the_next_one_comes() {
        let (from, mut asking) = io::pipe().unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        far.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let carried = thread::spawn(move || {
            let (mut from, mut near) = (std::fs::File::from(OwnedFd::from(from)), near);
            carry(&mut from, &mut near).unwrap()
        });
        let mut far = BufReader::new(far);
        for question in ["one\n", "two\n"] {
            asking.write_all(question.as_bytes()).unwrap();
            let mut line = String::new();
            far.read_line(&mut line).unwrap();
            assert_eq!(line, question);
        }
        drop(asking);
        assert_eq!(carried.join().unwrap(), 8);
    }
}
