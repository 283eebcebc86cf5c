//! What agents ask of the ledger: one JSON line each way, over a loopback connection of its own.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use sdk::{RunId, Token};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// Version of lines and calls.
pub const VERSION: u8 = 1;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Make a thing: a second time makes a second one.
    Make,
    /// Set a thing: a second time changes nothing.
    Set,
    /// Ring a bell: nobody can tell afterwards whether it was rung.
    Ring,
    /// Enter the room.
    Enter,
    /// Leave the room.
    Leave,
    /// Say whether a thing was made; who asks is newer than whoever may still be on the way.
    Ask,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Version of this format.
    pub v: u8,
    /// What.
    pub act: Act,
    /// To which thing; the key of the effect.
    pub thing: String,
    /// The room in which it happens, which a lock keeps for one run. Tokens are compared within it; without a room, within the thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// For which run.
    pub run: RunId,
    /// What the engine gave to show.
    pub token: Token,
}

/// What the ledger says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done, and written down.
    Done,
    /// A newer caller was here: nothing was done.
    Late,
    /// Asked: the thing was made.
    There,
    /// Asked: it was not.
    NotThere,
}

/// A call as the ledger has written it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds since 1970, for people.
    pub at_ms: u64,
    /// What was asked.
    pub call: Call,
    /// What was said.
    pub answer: Answer,
}

impl Call {
    /// Within what tokens are compared.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.room.as_deref().unwrap_or(&self.thing)
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Asks the ledger.
///
/// # Errors
/// It does not answer; whether it has done it is then unknown.
pub async fn ask(ledger: SocketAddr, call: &Call) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(ledger).await?;
    let line = format!("{}\n", serde_json::to_string(call)?);
    stream.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}
