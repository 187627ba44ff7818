//! What programs do with TCP, in three pure forms. Everything ends by itself: by count, by time, or by a time-out.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::{Host as _, Pod, Task};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;

use crate::series::Series;

/// Nothing here takes this long; whatever does ends the benchmark with an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gigabits a second from client to server.
pub(crate) fn throughput(client: &Pod, server: &Pod, port: u16, during: Duration) -> Result<f64> {
    let (address, received) = serve(server, port, |listener| {
        let mut stream = accept(&listener)?;
        let mut buffer = vec![0; 1 << 17];
        let mut total = 0_u64;
        loop {
            match stream.read(&mut buffer).context("the server cannot read")? {
                0 => return Ok(total),
                length => total += length as u64,
            }
        }
    })?;
    let begin = client.run(|| {
        let mut stream = connect(address)?;
        let (begin, chunk) = (Instant::now(), vec![0; 1 << 16]);
        while begin.elapsed() < during {
            stream.write_all(&chunk).context("the client cannot write")?;
        }
        Ok(begin)
    })?;
    let total = received.join()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    Ok(total as f64 * 8e-9 / begin.elapsed().as_secs_f64())
}

/// One byte there and one back, on one connection.
pub(crate) fn ping_pong(client: &Pod, server: &Pod, port: u16, times: usize) -> Result<Series> {
    let (address, served) = serve(server, port, |listener| {
        stay_on_one_cpu()?;
        let mut stream = accept(&listener)?;
        let mut byte = [0];
        while stream.read(&mut byte).context("the server cannot read")? > 0 {
            stream.write_all(&byte).context("the server cannot write")?;
        }
        Ok(())
    })?;
    let series = client.run(|| {
        stay_on_one_cpu()?;
        let mut stream = connect(address)?;
        (0..times).map(|_| timed(|| exchange(&mut stream))).collect()
    })?;
    served.join()?;
    Ok(series)
}

/// One byte there and one back, on a new connection each time.
pub(crate) fn connections(client: &Pod, server: &Pod, port: u16, times: usize) -> Result<Series> {
    let (address, served) = serve(server, port, move |listener| {
        stay_on_one_cpu()?;
        for _ in 0..times {
            let mut stream = accept(&listener)?;
            let mut byte = [0];
            stream.read_exact(&mut byte).context("the server cannot read")?;
            stream.write_all(&byte).context("the server cannot write")?;
            // The client closes first: what waits for late packets then is on its side.
            ensure!(stream.read(&mut byte)? == 0, "the client said more than one byte");
        }
        Ok(())
    })?;
    let series = client.run(|| {
        stay_on_one_cpu()?;
        (0..times).map(|_| timed(|| exchange(&mut connect(address)?))).collect()
    })?;
    served.join()?;
    Ok(series)
}

/// Puts the calling thread on the same CPU as its other side. Otherwise a turn takes 15 or 50 microseconds, depending on
/// where the scheduler happens to put the two, and that is more than anything that is measured here.
fn stay_on_one_cpu() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).context("cannot ask for CPUs")?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("no CPU is allowed to this thread")?)?;
    sched_setaffinity(this, &one).context("cannot stay on one CPU")
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [7];
    stream.write_all(&byte).context("the client cannot write")?;
    stream.read_exact(&mut byte).context("the client got no answer")
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<u32> {
    let begin = Instant::now();
    run()?;
    Ok(u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX))
}

/// Starts a server in the pod; it listens when this returns.
fn serve<T, F>(pod: &Pod, port: u16, serve: F) -> Result<(SocketAddr, Task<T>)>
where
    T: Send + 'static,
    F: FnOnce(TcpListener) -> Result<T> + Send + 'static,
{
    let address = SocketAddr::new(pod.ipv4().into(), port);
    let (ready, listens) = mpsc::channel();
    let task = pod.spawn(move || {
        let listener = TcpListener::bind(address).with_context(|| format!("{address}: cannot listen"))?;
        let patience = TimeVal::new(PATIENCE.as_secs().cast_signed(), 0);
        setsockopt(&listener, sockopt::ReceiveTimeout, &patience)?;
        // Nobody waits for it any more if this fails.
        let _unheard = ready.send(());
        serve(listener)
    })?;
    match listens.recv_timeout(PATIENCE) {
        Ok(()) => Ok((address, task)),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(task.join().err().context("the server ended at once")?)
        }
        Err(timeout) => Err(timeout).context("the server did not come up"),
    }
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => break other.context("no client came")?,
        }
    };
    patient(stream)
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    patient(TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("{to}: cannot connect"))?)
}

fn patient(stream: TcpStream) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
