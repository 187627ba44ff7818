//! A web server in a pod.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, process, thread};

use anyhow::{Context, Result, bail};
use netlab::{Host, Outcome, PATIENCE, tcp_connect};

/// How often it is looked whether it listens.
const ATTEMPTS: usize = 1000;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// nginx, as Debian has it. To whoever asks for anything it says who asked for what: address, port, method and target.
#[derive(Debug)]
pub struct Nginx {
    server: Child,
    folder: PathBuf,
}

impl Nginx {
    /// Starts one at a port of a pod, in both families.
    pub fn start(pod: &dyn Host, port: u16) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("polder-nginx-{}-{number}", process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let own = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!(" {name}_temp_path {own}/{name};\n"))
            .concat();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log {own}/errors;\nevents {{}}\nhttp {{\n{temporary} \
             log_format asked '$request';\n access_log {own}/asked asked;\n server {{\n  listen {port} backlog=1024;\n  \
             listen [::]:{port} ipv6only=on backlog=1024;\n  location / {{\n   \
             return 200 '$remote_addr $remote_port $request_method $request_uri';\n  }}\n }}\n}}\n"
        );
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, text).context("what nginx is told")?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&configuration).arg("-e").arg(folder.join("errors"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.join("said"))?);
        let server = pod.namespace().run(|| command.spawn().context("starting nginx"))?;
        let nginx = Self { server, folder };
        nginx.until_it_listens(pod, port)?;
        Ok(nginx)
    }

    fn until_it_listens(&self, pod: &dyn Host, port: u16) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if tcp_connect(pod, pod.ipv4().into(), port, PATIENCE)? == Outcome::Connected {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        let said = fs::read_to_string(self.folder.join("said")).unwrap_or_default();
        bail!("nginx does not listen: {said}")
    }

    /// What was asked of it, a request a line.
    pub fn asked(&self) -> String {
        fs::read_to_string(self.folder.join("asked")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait()) {
            eprintln!("nginx: {error}");
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}
