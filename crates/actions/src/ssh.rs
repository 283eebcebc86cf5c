//! A script on another machine, by the client of OpenSSH.
//!
//! ```text
//!   ssh … HOST sh -c WRAPPER ─▶ "ready NONCE" ─▶ prelude, script, "#end NONCE" on its standard input ─▶ whole? ─▶ sh -c SCRIPT
//! ```
//!
//! Invariants: 1. Until the wrapper has greeted, nothing of the script was sent: it certainly did not happen. 2. A script that did
//! not arrive whole is not run. 3. The client's own 255 is never an exit code of the script: the wrapper turns that into 254.
//! 4. Nothing of this machine's own SSH configuration, agent or keys is used.

use std::{fmt::Write as _, net::TcpStream as Connected, path::Path, process::Stdio};

use provider::{ActionError, Done, Link, Said};
use recovery::plan::action::{ActionContext, Ssh};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
};

use crate::{
    MOST_OUTPUT,
    configuration::{Configuration, UnknownHosts},
    lacks,
    limits::{Limits, Over},
    owned,
    running::{self, Event, Running},
    refused,
};

/// What the client exits with when it or the connection has failed.
const CLIENT_FAILED: i32 = 255;
/// Longest greeting that is read before the wrapper's: what a login says.
const MOST_GREETING: usize = 65_536;

pub(crate) async fn carry_out(dir: &Path, ssh: &Ssh, context: &ActionContext, link: Option<Link>, limits: Limits<'_>) -> Result<Done, ActionError> {
    let configuration = Configuration::read(dir).map_err(|why| lacks(why.to_string(), why.advice()))?;
    let nonce = format!("{:032x}", rand::random::<u128>());
    let tunnel = match link {
        None => None,
        Some(Link { stream, hangs_on }) => {
            let stream = stream.ok_or_else(|| refused("the link into the copy's network is none", "report this"))?;
            Some(Tunnel::open(stream, hangs_on).await.map_err(|error| unreachable(ssh, format!("the link into the copy's network: {error}")))?)
        }
    };
    let command = client(dir, ssh, configuration.ssh.unknown_hosts, tunnel.as_ref().map(|tunnel| tunnel.port), &nonce)?;
    let running = Running::spawn(command);
    let running = running.map_err(|error| lacks(format!("ssh can't be started: {error}"), "install the package openssh-client beside the agent"))?;
    let done = Conversation { ssh, nonce, said: Said::within(MOST_OUTPUT), sent: false }.held(running, &whole(ssh, context), limits).await;
    drop(tunnel);
    done
}

fn unreachable(ssh: &Ssh, detail: String) -> ActionError {
    ActionError::Unreachable { target: format!("{}@{} port {}", ssh.user, ssh.host, ssh.port), detail }
}

/// The client with everything that it might take from elsewhere turned off.
fn client(dir: &Path, ssh: &Ssh, unknown: UnknownHosts, tunnel: Option<u16>, nonce: &str) -> Result<Command, ActionError> {
    let known_hosts = dir.join("known_hosts");
    let strict = match unknown {
        UnknownHosts::Refuse => "yes",
        UnknownHosts::Learn => "accept-new",
    };
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-T", "-o", "LogLevel=ERROR"]);
    for option in [
        "BatchMode=yes",
        "PreferredAuthentications=publickey",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "ControlMaster=no",
        "ControlPath=none",
        "UpdateHostKeys=no",
        "GlobalKnownHostsFile=none",
        "ConnectTimeout=10",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
    ] {
        command.args(["-o", option]);
    }
    command.args(["-o", &format!("StrictHostKeyChecking={strict}")]).arg("-o").arg(format!("UserKnownHostsFile=\"{}\"", known_hosts.display()));
    let key = key(dir, ssh)?;
    command.arg("-i").arg(key);
    let alias = if ssh.port == 22 { ssh.host.clone() } else { format!("[{}]:{}", ssh.host, ssh.port) };
    match tunnel {
        Some(port) => command.args(["-o", &format!("HostKeyAlias={alias}"), "-p", &port.to_string(), "-l", &ssh.user, "--", "127.0.0.1"]),
        None => command.args(["-p", &ssh.port.to_string(), "-l", &ssh.user, "--", &ssh.host]),
    };
    command.arg(wrapper(nonce)).stdin(Stdio::piped());
    Ok(command)
}

/// The key that is named, or the only secret that is one.
fn key(dir: &Path, ssh: &Ssh) -> Result<std::path::PathBuf, ActionError> {
    if let Some(name) = &ssh.key {
        is_key(owned::secret(dir, name)?.text()).then_some(()).ok_or_else(|| {
            lacks(format!("secret {name} is no private key of OpenSSH"), "make one with ssh-keygen, and put the private half there")
        })?;
        return Ok(owned::path_of(dir, name));
    }
    let names = std::fs::read_dir(dir.join("secrets")).into_iter().flatten().flatten();
    let named = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let keys: Vec<_> = named.filter(|name| owned::secret(dir, name).is_ok_and(|secret| is_key(secret.text()))).collect();
    match keys.as_slice() {
        [only] => Ok(owned::path_of(dir, only)),
        keys => {
            let detail = format!("the action names no key, and this agent has {} private keys", keys.len());
            Err(lacks(detail, format!("put one into {}/secrets, and name it in the plan: `key: NAME`", dir.display())))
        }
    }
}

fn is_key(text: &str) -> bool {
    text.starts_with("-----BEGIN ") && text.contains("PRIVATE KEY-----")
}

/// What is run by the login shell. It has no single quote in it.
fn wrapper(nonce: &str) -> String {
    let script = format!(
        "echo ready {nonce}; s=$(cat); case $s in *\"#end {nonce}\") ;; *) echo the script did not arrive whole >&2; exit 254;; esac; \
         sh -c \"$s\" switchback </dev/null; c=$?; if [ $c = {CLIENT_FAILED} ]; then c=254; fi; exit $c"
    );
    format!("exec sh -c '{script}'")
}

/// The script behind what it finds in its environment.
fn whole(ssh: &Ssh, context: &ActionContext) -> String {
    let mut text = String::new();
    for (name, value) in context.environment() {
        let value = value.replace('\'', "'\\''");
        writeln!(text, "export {name}='{value}'").unwrap_or_else(|_| unreachable!("a string takes all"));
    }
    text + &ssh.script
}

struct Conversation<'a> {
    ssh: &'a Ssh,
    nonce: String,
    said: Said,
    /// The script was sent, or a part of it.
    sent: bool,
}

impl Conversation<'_> {
    async fn held(mut self, mut running: Running, script: &str, mut limits: Limits<'_>) -> Result<Done, ActionError> {
        let (greeting, mut heard) = (format!("ready {}\n", self.nonce).into_bytes(), Vec::new());
        loop {
            match running.next(&mut limits).await {
                Ok(Event::Said(words)) if self.sent => self.said.hear(&words),
                Ok(Event::Said(words)) => {
                    heard.extend(words);
                    let Some(at) = heard.windows(greeting.len()).position(|part| part == greeting) else {
                        if heard.len() > MOST_GREETING {
                            running.end().await;
                            return Err(refused(format!("{} says more than it should before the script", self.ssh.host), "let the login say less"));
                        }
                        continue;
                    };
                    self.said.hear(&heard[at + greeting.len()..]);
                    self.sent = true;
                    let input = running.input.take();
                    let sent = limits.wait(async {
                        let mut input = input?;
                        // If it does not arrive whole, the wrapper says so by its end.
                        input.write_all(format!("{script}\n#end {}", self.nonce).as_bytes()).await.ok()?;
                        input.shutdown().await.ok()
                    });
                    if let Err(over) = sent.await {
                        running.end().await;
                        return Err(self.over(over, &limits));
                    }
                }
                Ok(Event::Ended(status)) => return self.ended(running::code(status), &heard),
                Ok(Event::Over(over)) => {
                    running.end().await;
                    return Err(self.over(over, &limits));
                }
                Err(error) => return Err(ActionError::Unknown { detail: format!("ssh can't be waited for: {error}"), said: self.said }),
            }
        }
    }

    fn over(self, over: Over, limits: &Limits<'_>) -> ActionError {
        match (over, self.sent) {
            (Over::Late, false) => unreachable(self.ssh, format!("there was no shell within {}", limits.within())),
            (Over::Late, true) => {
                let detail = format!("the script at {} had not ended after {}; it may still run there", self.ssh.host, limits.within());
                ActionError::Unknown { detail, said: self.said }
            }
            (Over::Unwanted, _) => ActionError::Stopped,
        }
    }

    fn ended(self, code: i32, heard: &[u8]) -> Result<Done, ActionError> {
        let Ssh { host, user, .. } = self.ssh;
        if !self.sent {
            return Err(self.refused(code, &String::from_utf8_lossy(heard)));
        }
        let told = format!("the script at {user}@{host} exits with {code}");
        match code {
            0 => Ok(Done { evidence: told, status: Some(0), said: self.said }),
            CLIENT_FAILED => {
                let detail = format!("the connection to {user}@{host} broke while the script ran; it may still run there");
                Err(ActionError::Unknown { detail, said: self.said })
            }
            _ => Err(ActionError::Failed { detail: told, status: Some(code), said: self.said }),
        }
    }

    /// Nothing was sent; some reasons do not pass by themselves.
    fn refused(&self, code: i32, words: &str) -> ActionError {
        let Ssh { host, port, user, .. } = self.ssh;
        let words = words.trim();
        if words.contains("Host key verification failed") {
            let advice = format!(
                "if that is the right machine, add its key to known_hosts beside this agent's actions.yaml: `ssh-keyscan -p {port} {host}`, and compare it"
            );
            return refused(format!("the key of {host} is not the one that this agent knows: {words}"), advice);
        }
        if words.contains("Permission denied") {
            let advice = format!("add the public half of the key to authorized_keys of {user} at {host}, or name another key");
            return refused(format!("{host} does not let {user} in with this key: {words}"), advice);
        }
        let words = if words.is_empty() { format!("ssh exits with {code} and says nothing") } else { words.to_owned() };
        unreachable(self.ssh, words)
    }
}

/// A port of this host's loopback that leads, for one caller, over a link into a copy's network.
struct Tunnel {
    port: u16,
    _task: JoinSet<()>,
}

impl Tunnel {
    async fn open(stream: Connected, hangs_on: Option<Box<dyn Send + Sync>>) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut there = TcpStream::from_std(stream)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _as_long = hangs_on;
            let Ok((mut here, _)) = listener.accept().await else { return };
            drop(listener);
            // It ends when one of both does; what that means, ssh says.
            drop(copy_bidirectional(&mut here, &mut there).await);
        });
        Ok(Self { port, _task: task })
    }
}
