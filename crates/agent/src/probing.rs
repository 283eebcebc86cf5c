//! Checks over the network: a TCP connect, or a GET that is answered with 2xx.

use std::time::Duration;

use activities::Prober;
use async_trait::async_trait;
use recovery::Check;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longest single question: a machine that boots answers nothing at all, so asking again is better than waiting.
const LIMIT: Duration = Duration::from_secs(3);
/// The status line is in the first bytes.
const HEAD_BYTES: usize = 1024;

/// Asks from this host.
pub(crate) struct FromHere;

#[async_trait]
impl Prober for FromHere {
    async fn ask(&self, check: &Check) -> Result<String, String> {
        let answered = tokio::time::timeout(LIMIT, answer(check)).await;
        match answered {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        }
    }
}

async fn answer(check: &Check) -> std::io::Result<String> {
    match check {
        Check::Tcp { host, port } => {
            TcpStream::connect((bare(host), *port)).await?;
            Ok(format!("{check} accepts connections"))
        }
        Check::Http { host, port, path } => {
            let mut stream = TcpStream::connect((bare(host), *port)).await?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
            let mut head = Vec::new();
            stream.take(HEAD_BYTES as u64).read_to_end(&mut head).await?;
            let head = String::from_utf8_lossy(&head);
            let line = head.lines().next().unwrap_or("");
            let status = line.split_whitespace().nth(1).and_then(|status| status.parse::<u16>().ok());
            match status {
                Some(200..=299) => Ok(format!("{check} answers {line}")),
                Some(_) | None => Err(std::io::Error::other(format!("it answers {line:?}"))),
            }
        }
    }
}

/// IPv6 addresses are written in brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}
