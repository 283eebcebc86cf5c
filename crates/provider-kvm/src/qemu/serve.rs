//! A `qemu-nbd` process for one image, for as long as one conversation with it lasts.
//!
//! It ends by itself when its only client goes, so a killed agent leaves none behind that has a client. One that is killed
//! between starting the server and connecting leaves an orphan; [`end_orphans`] finds those by their socket's directory.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use provider::{Applied, ProviderError};

use crate::{
    nbd::{Client, NbdError},
    pidfd::Pidfd,
};

/// A server that is not there by then never will be.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A server that has lost its client and does not end by then is killed.
const END_PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nobody may write to the image meanwhile.
    Read,
    Write,
}

/// A served image and the conversation with its server. Dropped, the server closes the image and ends.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    socket: PathBuf,
    client: Option<Client>,
    image: PathBuf,
}

impl Served {
    /// Serves `image` on a socket in `run_dir` and connects to it. `bitmap` adds that bitmap's context in place of allocation.
    pub(crate) fn open(run_dir: &Path, image: &Path, access: Access, bitmap: Option<&str>) -> Result<Self, ProviderError> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = run_dir.join(format!("n{}.{count}", std::process::id()));
        let mut command = Command::new("qemu-nbd");
        command.arg("--socket").arg(&socket).args(["--export-name=disk", "--format=qcow2", "--shared=1"]);
        match access {
            Access::Read => command.arg("--read-only"),
            Access::Write => command.args(["--discard=unmap", "--cache=writeback"]),
        };
        if let Some(bitmap) = bitmap {
            command.arg(format!("--bitmap={bitmap}"));
        }
        command.arg("--").arg(image).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |detail: String| failed(image, detail);
        let child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
        let mut served = Self { child, socket, client: None, image: image.to_owned() };
        let context = bitmap.map_or("base:allocation".to_owned(), |b| format!("qemu:dirty-bitmap:{b}"));
        served.client = Some(served.connect(&context)?);
        Ok(served)
    }

    fn connect(&mut self, context: &str) -> Result<Client, ProviderError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match Client::connect(&self.socket, "disk", Some(context)) {
                Ok(client) => return Ok(client),
                // Not there yet, or there no more: then its own words say why.
                Err(NbdError::Io(_)) => {}
                Err(error) => return Err(failed(&self.image, format!("{error}: {:?}", std::error::Error::source(&error)))),
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let mut said = String::new();
                if let Some(mut stderr) = self.child.stderr.take() {
                    io::Read::read_to_string(&mut stderr, &mut said).map_err(|e| failed(&self.image, e.to_string()))?;
                }
                return Err(failed(&self.image, format!("{status}: {}", said.trim())));
            }
            if Instant::now() > deadline {
                return Err(failed(&self.image, "it does not come up".to_owned()));
            }
            thread::sleep(POLL);
        }
    }

    /// The conversation.
    pub(crate) fn client(&mut self) -> Result<&mut Client, ProviderError> {
        self.client.as_mut().ok_or_else(|| failed(&self.image, "the conversation has ended".to_owned()))
    }

    /// Turns an error of the conversation into one about this image.
    pub(crate) fn error(&self, error: &NbdError) -> ProviderError {
        failed(&self.image, format!("{error}: {:?}", std::error::Error::source(error)))
    }

    /// Makes everything durable, ends the conversation and waits until the server has closed the image.
    pub(crate) fn close(mut self) -> Result<(), ProviderError> {
        if let Some(mut client) = self.client.take() {
            let ended = client.flush().and_then(|()| client.disconnect());
            ended.map_err(|e| self.error(&e))?;
        }
        let status = self.child.wait().map_err(|e| failed(&self.image, e.to_string()))?;
        if !status.success() {
            return Err(failed(&self.image, status.to_string()));
        }
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.client = None; // the server closes the image and ends, as it does when the agent is killed
        let deadline = Instant::now() + END_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop))
        {
            tracing::warn!(image = %self.image.display(), %error, "could not end qemu-nbd");
        }
        if let Err(error) = fs::remove_file(&self.socket)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(socket = %self.socket.display(), %error, "could not remove a socket");
        }
    }
}

fn failed(image: &Path, detail: String) -> ProviderError {
    ProviderError::Platform { operation: "qemu-nbd".to_owned(), target: image.display().to_string(), detail, applied: Applied::Unknown }
}

/// Ends servers that an agent which is gone has left in `run_dir`, and removes their sockets. Called before any is started.
pub(crate) fn end_orphans(run_dir: &Path) -> io::Result<()> {
    let ours = |args: &[Vec<u8>]| {
        let program = args.first().map(|a| Path::new(OsStr::from_bytes(a)));
        program.and_then(Path::file_name) == Some(OsStr::new("qemu-nbd"))
            && args.iter().any(|a| Path::new(OsStr::from_bytes(a)).parent() == Some(run_dir))
    };
    for orphan in Pidfd::find(ours)? {
        tracing::info!(pid = orphan.pid(), "ending a qemu-nbd that nobody uses");
        orphan.kill()?;
    }
    for name in crate::durable::names(run_dir)? {
        crate::durable::remove(&run_dir.join(name))?;
    }
    Ok(())
}
