//! A machine for a test: namespaces and a bpffs of its own, which go with its thread.

use std::ffi::CString;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock};
use std::thread;

use agent::dataplane::{Dataplane, Options, Sizes};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A machine of its own for one test.
pub(crate) struct Node {
    pub(crate) bpffs: PathBuf,
}

impl Node {
    pub(crate) fn options(&self) -> Options {
        Options {
            bpffs: self.bpffs.join("polder"),
            object: Some(object().to_owned()),
            sizes: Sizes { flows: 4096, ..Sizes::default() },
            ..Options::default()
        }
    }

    /// The directory of the maps.
    pub(crate) fn maps(&self) -> PathBuf {
        let sets = std::fs::read_dir(self.bpffs.join("polder")).unwrap().map(|entry| entry.unwrap().path());
        let mut sets = sets.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('v'));
        sets.next().expect("there is one set")
    }

    pub(crate) fn open(&self) -> Dataplane {
        Dataplane::open(&self.options()).unwrap()
    }
}

/// The object that the environment names, or that `cargo xtask bpf` builds.
pub(crate) fn object() -> &'static Path {
    static OBJECT: OnceLock<PathBuf> = OnceLock::new();
    OBJECT.get_or_init(|| {
        if let Some(path) = std::env::var_os("POLDER_BPF_OBJECT") {
            return path.into();
        }
        let built = Command::new(env!("CARGO")).args(["xtask", "bpf"]).output().unwrap();
        let said = String::from_utf8_lossy(&built.stdout).into_owned();
        assert!(built.status.success(), "{said}{}", String::from_utf8_lossy(&built.stderr));
        said.lines().last().expect("it prints the path last").into()
    })
}

/// Runs a test in namespaces of its own. Loud about being skipped without root, which `POLDER_STRICT=1` does not accept.
pub(crate) fn on_a_node(test: &'static str, run: impl FnOnce(&Node) + Send + 'static) {
    /// Two cores and a verifier: one at a time.
    static TURN: Mutex<()> = Mutex::new(());
    if !nix::unistd::geteuid().is_root() {
        assert_ne!(std::env::var("POLDER_STRICT").as_deref(), Ok("1"), "{test} needs root");
        eprintln!("!!! SKIPPED: {test} needs root: nothing about the dataplane was tested");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    object();
    node_thread(test, run).join().unwrap_or_else(|failure| std::panic::resume_unwind(failure));
}

pub(crate) fn node_thread(
    test: &'static str,
    run: impl FnOnce(&Node) + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::Builder::new()
        .name(test.to_owned())
        .spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .unwrap();
            let bpffs = std::env::temp_dir().join(format!("polder-dataplane-{}-{test}", std::process::id()));
            std::fs::create_dir(&bpffs).unwrap();
            mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
            let node = Node { bpffs };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&node)));
            nix::mount::umount2(&node.bpffs, nix::mount::MntFlags::MNT_DETACH).unwrap();
            std::fs::remove_dir(&node.bpffs).unwrap();
            result.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
        })
        .unwrap()
}

pub(crate) fn shell(command: &str) {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A veth pair, both ends in this namespace; gives the index of the near end.
pub(crate) fn veth(name: &str) -> u32 {
    shell(&format!(
        "ip link set lo up; ip link add {name} type veth peer name {name}p; ip link set {name} up; ip link set {name}p up"
    ));
    index(name)
}

pub(crate) fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// A pod in a namespace of its own, which goes with its thread.
pub(crate) struct Pod {
    commands: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Pod {
    pub(crate) fn new(near: &str, address: &str) -> Self {
        let (commands, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (send, ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            send.send(nix::unistd::gettid()).unwrap();
            for command in todo {
                command();
            }
        });
        let pod = Self { commands, thread: Some(thread) };
        let thread = ready.recv().unwrap();
        shell(&format!(
            "ip link add {near} type veth peer name eth0 netns {thread}; ip addr add 10.0.0.1/24 dev {near}"
        ));
        shell(&format!("ip link set {near} up; ip link set lo up"));
        let address = address.to_owned();
        pod.run(move || shell(&format!("ip link set eth0 up; ip addr add {address}/24 dev eth0")));
        pod
    }

    pub(crate) fn run<T: Send + 'static>(&self, command: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = mpsc::channel();
        self.commands.send(Box::new(move || send.send(command()).unwrap())).unwrap();
        receive.recv().expect("the command did not fail")
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        let text = self.run(|| {
            let shown = Command::new("ip").args(["-br", "link", "show", "eth0"]).output().unwrap();
            String::from_utf8(shown.stdout).unwrap()
        });
        let mac: Vec<u8> = text
            .split_whitespace()
            .nth(2)
            .unwrap()
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        mac.try_into().unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.commands = closed;
        let _ended = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// A pinned object.
pub(crate) fn pinned(path: &Path) -> OwnedFd {
    const OBJ_GET: i64 = 7;
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let fd = bpf(OBJ_GET, &[path.as_ptr() as u64, 0]);
    // SAFETY: the descriptor came from this call and is nobody else's.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

/// The system call, with attributes that are numbers or pointers to what lives on.
pub(crate) fn bpf(command: i64, attributes: &[u64]) -> i64 {
    // SAFETY: the callers give pointers that are valid for what the command reads; none of these commands writes.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    assert!(result >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    result
}
