//! A client, a server, and between them a node whose routing takes the place of the agent's programs: packets of either go into
//! the proxy, and what comes out of it goes where it is addressed to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, SockRef, Socket, Type};

use crate::maps::Pinned;
use crate::place::{Place, connect};

pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
const MAC: &str = "02:50:4f:4c:44:52";
const CLIENT: [&str; 2] = ["10.77.1.1", "fd77:1::1"];
const SERVER: [&str; 2] = ["10.77.2.1", "fd77:2::1"];
const PORT: u16 = 8080;

/// Which family of addresses is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Four,
    Six,
}

impl Family {
    fn address(self, of: [&str; 2], port: u16) -> SocketAddr {
        let ip: IpAddr = of[self as usize].parse().unwrap();
        SocketAddr::new(ip, port)
    }

    pub(crate) fn client(self, port: u16) -> SocketAddr {
        self.address(CLIENT, port)
    }

    pub(crate) fn server(self) -> SocketAddr {
        self.address(SERVER, PORT)
    }
}

/// What the proxy's kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    Usual,
    /// As one that was started with `ipv6.disable=1`: no socket of that family can be had.
    WithoutSix,
}

/// What the server saw of a connection: who it seemed to come from, and how large its segments may be.
pub(crate) type Seen = (SocketAddr, u32);

pub(crate) struct Rig {
    pub(crate) pinned: Pinned,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) proxy: Process,
    node: Place,
    client: Place,
    _server: Place,
}

impl Rig {
    /// Everything but the BPF programs of the agent; the proxy starts after a shell command in its own mount namespace. `None`
    /// if there is no object of the proxy's.
    pub(crate) fn under(preparation: &str, kernel: Kernel) -> Option<Self> {
        let object = object()?;
        let (node, client, server) = (Place::new(), Place::new(), Place::new());
        let of = |[four, six]: [&str; 2]| [format!("{four}/24"), format!("{six}/64")];
        let ([c4, c6], [s4, s6]) = (of(CLIENT), of(SERVER));
        connect((&node, "vc", ["10.77.1.254/24", "fd77:1::254/64"]), (&client, "eth0", [&c4, &c6]));
        connect((&node, "vs", ["10.77.2.254/24", "fd77:2::254/64"]), (&server, "eth0", [&s4, &s6]));
        for (place, subnet) in [(&client, 1), (&server, 2)] {
            place.ip(&format!("route add default via 10.77.{subnet}.254"));
            place.ip(&format!("-6 route add default via fd77:{subnet}::254"));
        }
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/vc/rp_filter", "0"),
            ("net/ipv4/conf/vs/rp_filter", "0"),
        ] {
            node.sysctl(name, value);
        }
        let pinned = Pinned::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        serve(&server, &seen);
        let proxy = Process::start(&node, &pinned, &object, preparation, kernel);
        let rig = Rig { pinned, seen, proxy, node, client, _server: server };
        rig.redirect();
        Some(rig)
    }

    /// Has packets take the way through the proxy once its device is up.
    fn redirect(&self) {
        let device = &device(&self.node);
        let node = &self.node;
        node.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "0");
        // As the agent's programs would write it, in both directions.
        node.ip(&format!("link set {device} address {MAC}"));
        for (family, gateway) in [("-4", "169.254.0.9"), ("-6", "fe80::9")] {
            node.ip(&format!("{family} neigh add {gateway} lladdr {MAC} dev {device}"));
            node.ip(&format!("{family} route add default via {gateway} dev {device} onlink table 100"));
            for from in ["vc", "vs"] {
                node.ip(&format!("{family} rule add iif {from} lookup 100"));
            }
        }
    }

    /// A connection of the pod that the kernel knows of.
    pub(crate) fn open(&mut self, family: Family, port: u16) -> Client {
        self.pinned.begin(family.client(port), family.server());
        self.open_unknown(family, port, None).unwrap()
    }

    /// A connection of which the kernel knows nothing; if it is said, with segments as large as that at most.
    pub(crate) fn open_unknown(
        &self,
        family: Family,
        port: u16,
        segment: Option<u32>,
    ) -> std::io::Result<Client> {
        self.client.run(move || {
            let domain = Domain::for_address(family.server());
            let socket = Socket::new(domain, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            if let Some(segment) = segment {
                socket.set_tcp_mss(segment)?;
            }
            socket.bind(&family.client(port).into())?;
            socket.connect_timeout(&family.server().into(), PATIENCE)?;
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Client(BufReader::new(stream)))
        })
    }

    /// Whether a device of the proxy is there.
    pub(crate) fn has_device(&self) -> bool {
        self.node.ip("-o link").contains(": polder")
    }
}

/// The proxy, which is killed with this.
pub(crate) struct Process {
    child: Child,
    folder: PathBuf,
}

impl Process {
    fn start(node: &Place, pinned: &Pinned, object: &Path, preparation: &str, kernel: Kernel) -> Self {
        let folder = pinned.path().to_owned();
        let file = |name| fs::File::create(folder.join(name)).unwrap();
        let (namespace, log, problems) = (node.file(), file("access.log"), file("log"));
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-ec", &format!("{preparation}; exec \"$@\""), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_polder-proxy"));
        command.arg("--bpffs").arg(pinned.bpffs()).arg("--access-log");
        // Else it is built in, as `proxy/build.rs` does.
        if option_env!("POLDER_BPF_OBJECT").is_none() {
            command.arg("--bpf-object").arg(object);
        }
        command.arg("--lists").arg(folder.join("lists")).arg("--metrics").arg(folder.join("proxy.sock"));
        command.args(["--drain", "20"]).stdin(Stdio::null()).stdout(log).stderr(problems);
        if kernel == Kernel::WithoutSix {
            without_six(&mut command);
        }
        let child = thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            command.spawn().unwrap()
        });
        Process { child: child.join().unwrap(), folder }
    }

    /// The processes that read requests.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().map(|id| id.parse().unwrap()).collect()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn terminate(&self) {
        send(self.child.id(), Signal::SIGTERM);
    }

    pub(crate) fn has_ended(&mut self) -> Option<bool> {
        self.child.try_wait().unwrap().map(|status| status.success())
    }

    pub(crate) fn metrics(&self) -> String {
        let mut stream = UnixStream::connect(self.folder.join("proxy.sock")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// A stream of requests, as they end.
    pub(crate) fn stream(&self, path: &str) -> impl Iterator<Item = String> + use<> {
        let mut stream = UnixStream::connect(self.folder.join("proxy.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
        // The lengths of chunks are between them, and empty lines.
        lines.filter(|line| line.starts_with(['{', '"']))
    }

    /// What it said of itself.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(self.folder.join("access.log")).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// Has the kernel refuse sockets of IPv6 to a process, and to all that it starts, as if it knew none (socket(2), seccomp(2)).
fn without_six(command: &mut Command) {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;
    let step = |code, k, jt, jf| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let call = u32::try_from(libc::SYS_socket).unwrap();
    let [six, unknown] = [libc::AF_INET6, libc::EAFNOSUPPORT].map(|number| u32::try_from(number).unwrap());
    // Of `seccomp_data`: the number of the call, and the low half of its first argument.
    let first = 16 + if cfg!(target_endian = "big") { 4 } else { 0 };
    let filter = [
        step(LOAD, 0, 0, 0),
        step(IS, call, 0, 3),
        step(LOAD, first, 0, 0),
        step(IS, six, 0, 1),
        step(ANSWER, libc::SECCOMP_RET_ERRNO | unknown, 0, 0),
        step(ANSWER, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: 6, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program and its steps live until the call has copied them.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// The proxy's device in a node, once that is up.
fn device(node: &Place) -> String {
    let mut device = None;
    wait("the device is up", || {
        let links = node.ip("-o link show up");
        device = links.split(": ").find(|word| word.starts_with("polder")).map(str::to_owned);
        device.is_some()
    });
    let device = device.unwrap();
    device.split('@').next().unwrap().to_owned()
}

/// One connection of the client's.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    /// Asks for a path, and gives the status and the body.
    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        self.try_get(path).unwrap()
    }

    /// Ends it so that nothing of it stays.
    pub(crate) fn reset(self) {
        SockRef::from(self.0.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub(crate) fn try_get(&mut self, path: &str) -> std::io::Result<(u16, String)> {
        let request = format!("GET {path}?secret=1 HTTP/1.1\r\nHost: shop\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body).unwrap()))
    }
}

/// Ends a process at once.
pub(crate) fn murder(id: u32) {
    send(id, Signal::SIGKILL);
}

fn send(id: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
}

/// Waits until something holds.
pub(crate) fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE * 2, "it does not come about that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A server that answers every request, until the test ends.
fn serve(place: &Place, seen: &Arc<Mutex<Vec<Seen>>>) {
    let listener = place.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap());
    let seen = Arc::clone(seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap();
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            seen.lock().unwrap().push((peer, SockRef::from(&stream).tcp_mss().unwrap()));
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(stream: TcpStream) {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
        if line.trim().is_empty()
            && lines.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes").is_err()
        {
            return;
        }
        line.clear();
    }
}

/// The proxy's object: beside the agent's, which the environment may name, or where `cargo xtask bpf` puts it.
fn object() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = root.join("target/bpf/bpfel-unknown-none/release/polder");
    let beside = std::env::var_os("POLDER_BPF_OBJECT").map_or(built, PathBuf::from);
    let object = beside.with_file_name("polder-accept");
    object.is_file().then_some(object)
}
