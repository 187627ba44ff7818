//! A blocking client of the agent's socket.

use std::fmt;
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::VERSION;
use crate::frame::{self, Frame, LineError, REPLY_LENGTH, REQUEST_LENGTH};
use crate::reply::Reply;
use crate::request::Request;
use crate::status::Status;
use crate::world::{self, Document};

/// How long the agent may take for a line, unless flows are followed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to an agent.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    /// The agent's own version.
    agent: String,
    line: Vec<u8>,
    /// An answer was left before its end, or the connection failed: what would be read next is not known.
    spent: bool,
}

/// Why an agent did not answer.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens there, or the connection failed.
    Connection {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What came of it.
        error: LineError,
    },
    /// The agent speaks another version of the protocol.
    Version {
        /// The agent's version of the protocol.
        protocol: u32,
        /// The agent's own version.
        agent: String,
    },
    /// The agent refused the request.
    Refused(String),
    /// The agent sent what is no answer to what was asked.
    Unexpected(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection { path, doing, error } => {
                write!(f, "agent at {}: {doing}: {error}", path.display())?;
                let LineError::Io(error) = error else { return Ok(()) };
                match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        f.write_str("; expected a running polder-agent (is its --socket another one?)")
                    }
                    io::ErrorKind::PermissionDenied => f.write_str("; expected to be root"),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        write!(f, "; expected an answer within {} s", PATIENCE.as_secs())
                    }
                    _ => Ok(()),
                }
            }
            Self::Version { protocol, agent } => write!(
                f,
                "agent {agent} speaks version {protocol} of the protocol; expected {VERSION}: use the polctl that \
                 came with the agent"
            ),
            Self::Refused(message) => write!(f, "agent: {message}"),
            Self::Unexpected(message) => write!(f, "agent: unexpected answer: {message}"),
        }
    }
}

impl std::error::Error for Error {}

impl Client {
    /// Connects and exchanges versions.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let failed =
            |doing, error| Error::Connection { path: path.to_owned(), doing, error: LineError::Io(error) };
        let stream = UnixStream::connect(path).map_err(|error| failed("connecting", error))?;
        Self::over(stream, path)
    }

    /// Exchanges versions over a connection that is there; the path only names it.
    pub fn over(stream: UnixStream, path: &Path) -> Result<Self, Error> {
        let failed =
            |doing, error| Error::Connection { path: path.to_owned(), doing, error: LineError::Io(error) };
        let timeouts =
            stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        timeouts.map_err(|error| failed("setting timeouts", error))?;
        let mut client = Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
            agent: String::new(),
            line: Vec::new(),
            spent: false,
        };
        match client.receive()? {
            Frame::Hello(hello) if hello.protocol == VERSION => {
                client.agent = hello.agent;
                Ok(client)
            }
            Frame::Hello(hello) => Err(Error::Version { protocol: hello.protocol, agent: hello.agent }),
            Frame::Error { message } => Err(Error::Refused(message)),
            other => Err(Error::Unexpected(format!("found {other:?}; expected a hello"))),
        }
    }

    /// The agent's own version.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Sends a request. The answer has to be read to its end before the next request.
    pub fn request(&mut self, request: &Request) -> Result<Replies<'_>, Error> {
        if self.spent {
            return Err(Error::Unexpected("the answer before was not read to its end".to_owned()));
        }
        let line = frame::line(request).map_err(|error| Error::Unexpected(error.to_string()))?;
        if line.len() > REQUEST_LENGTH {
            let (found, bound) = (line.len(), REQUEST_LENGTH);
            return Err(Error::Refused(format!("the request has {found} bytes; expected at most {bound}")));
        }
        let endless = matches!(request, Request::Flows(flows) if flows.follow);
        let patience = if endless { None } else { Some(PATIENCE) };
        let stream = self.stream.get_mut();
        let sent = stream.set_read_timeout(patience).and_then(|()| stream.write_all(&line));
        sent.map_err(|error| self.failed("sending a request", LineError::Io(error)))?;
        self.spent = true;
        Ok(Replies { client: self, over: false })
    }

    /// The one reply to a request that has one.
    fn only(&mut self, request: &Request) -> Result<Reply, Error> {
        let mut replies = self.request(request)?;
        let first = replies.next().unwrap_or_else(|| Err(Error::Unexpected("no reply".to_owned())))?;
        match replies.next() {
            None => Ok(first),
            Some(Err(error)) => Err(error),
            Some(Ok(more)) => Err(unexpected("one reply", &more)),
        }
    }

    /// How the agent is.
    pub fn status(&mut self) -> Result<Status, Error> {
        match self.only(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected("a status", &other)),
        }
    }

    /// The documents in force.
    pub fn world(&mut self) -> Result<Vec<Document>, Error> {
        let mut documents = Vec::new();
        for reply in self.request(&Request::World)? {
            match reply? {
                Reply::World(piece) => world::join(&mut documents, piece),
                other => return Err(unexpected("documents", &other)),
            }
        }
        Ok(documents)
    }

    /// What the kernel's maps say, in the order of the questions.
    pub fn judge(
        &mut self,
        questions: Vec<crate::judgement::Question>,
    ) -> Result<Vec<crate::judgement::Answer>, Error> {
        let asked = questions.len();
        match self.only(&Request::Judge(questions))? {
            Reply::Answers(answers) if answers.len() == asked => Ok(answers),
            Reply::Answers(answers) => {
                Err(Error::Unexpected(format!("{} answers to {asked} questions", answers.len())))
            }
            other => Err(unexpected("answers", &other)),
        }
    }

    /// Intent compared with the kernel.
    pub fn verify(&mut self) -> Result<crate::verification::Verification, Error> {
        match self.only(&Request::Verify)? {
            Reply::Verification(verification) => Ok(verification),
            other => Err(unexpected("a verification", &other)),
        }
    }

    /// Waits until the policy of a pod is in force.
    pub fn wait(&mut self, wait: crate::wait::Wait) -> Result<crate::wait::InForce, Error> {
        match self.only(&Request::Wait(wait))? {
            Reply::InForce(in_force) => Ok(in_force),
            other => Err(unexpected("a pod whose policy is in force", &other)),
        }
    }

    /// Says that the network of a pod is taken down.
    pub fn release(&mut self, pod: crate::wait::Pod) -> Result<(), Error> {
        match self.only(&Request::Release(pod))? {
            Reply::Released => Ok(()),
            other => Err(unexpected("that it is known", &other)),
        }
    }

    fn receive(&mut self) -> Result<Frame, Error> {
        match frame::read_line(&mut self.stream, &mut self.line, REPLY_LENGTH) {
            Ok(Some(())) => {}
            Ok(None) => return Err(Error::Unexpected("the connection ended".to_owned())),
            Err(error) => return Err(self.failed("waiting for an answer", error)),
        }
        serde_json::from_slice(&self.line).map_err(|error| Error::Unexpected(error.to_string()))
    }

    fn failed(&self, doing: &'static str, error: LineError) -> Error {
        Error::Connection { path: self.path.clone(), doing, error }
    }
}

fn unexpected(expected: &str, found: &Reply) -> Error {
    let mut found = format!("{found:?}");
    found.truncate(found.floor_char_boundary(200));
    Error::Unexpected(format!("found {found}; expected {expected}"))
}

/// The replies to one request, as they come. After an error there is nothing more.
#[derive(Debug)]
pub struct Replies<'a> {
    client: &'a mut Client,
    over: bool,
}

impl Iterator for Replies<'_> {
    type Item = Result<Reply, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let frame = match self.client.receive() {
            Ok(frame) => frame,
            Err(error) => {
                self.over = true;
                return Some(Err(error));
            }
        };
        match frame {
            Frame::Reply(reply) => return Some(Ok(*reply)),
            Frame::Done => self.client.spent = false,
            Frame::Error { ref message } => {
                self.client.spent = false;
                self.over = true;
                return Some(Err(Error::Refused(message.clone())));
            }
            Frame::Hello(_) => {
                self.over = true;
                return Some(Err(Error::Unexpected("a second hello".to_owned())));
            }
        }
        self.over = true;
        None
    }
}
