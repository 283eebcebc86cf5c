//! Asking a machine over its network whether it serves: a TCP connect, a GET that is answered with 2xx, the greeting of an SSH or
//! RDP server. Blocks; asks from wherever the calling thread is.

use std::{
    io::{Error, Read, Result, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use recovery::Check;

/// The status line is in the first bytes.
const HEAD_BYTES: usize = 1024;
/// A connection request of X.224 in a TPKT, which offers TLS and CredSSP as every client does (MS-RDPBCGR 2.2.1.1).
const RDP_REQUEST: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0];

/// Asks once. Returns what was answered.
///
/// # Errors
/// What did not hold, in words. The limit holds for all but the look-up of a name.
pub fn ask(check: &Check, limit: Duration) -> std::result::Result<String, String> {
    let deadline = Instant::now() + limit;
    let late = |error: &Error| matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    answer(check, deadline).map_err(|error| if late(&error) { format!("no answer within {} s", limit.as_secs()) } else { error.to_string() })
}

fn answer(check: &Check, deadline: Instant) -> Result<String> {
    match check {
        Check::Tcp { host, port } => {
            connect(host, *port, deadline)?;
            Ok(format!("{check} accepts connections"))
        }
        Check::Http { host, port, path } => {
            let mut stream = connect(host, *port, deadline)?;
            stream.set_write_timeout(Some(left(deadline)?))?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
            let head = head(stream, deadline)?;
            let line = head.lines().next().unwrap_or("");
            let status = line.split_whitespace().nth(1).and_then(|status| status.parse::<u16>().ok());
            match status {
                Some(200..=299) => Ok(format!("{check} answers {line}")),
                Some(_) | None => Err(Error::other(format!("it answers {line:?}"))),
            }
        }
        Check::Ssh { host, port } => {
            let heard = read_until(connect(host, *port, deadline)?, deadline, |heard| greeting(heard).is_some())?;
            match greeting(&heard) {
                Some(line) => Ok(format!("{check} greets with {line}")),
                None => Err(Error::other(format!("it says {:?}, which is no SSH server", text(&heard)))),
            }
        }
        Check::Rdp { host, port } => {
            let mut stream = connect(host, *port, deadline)?;
            stream.set_write_timeout(Some(left(deadline)?))?;
            stream.write_all(&RDP_REQUEST)?;
            let heard = read_until(stream, deadline, |heard| heard.len() > 5)?;
            match heard.as_slice() {
                [3, 0, _, _, _, confirm, ..] if confirm & 0xf0 == 0xd0 => Ok(format!("{check} confirms a connection")),
                other => Err(Error::other(format!("it answers {:?}, which is no RDP server", text(other)))),
            }
        }
        Check::Guest { .. } => Err(Error::other("a program in a guest is run by its agent and not asked over the network")),
    }
}

/// The first line of the answer, or what came of it.
fn head(stream: TcpStream, deadline: Instant) -> Result<String> {
    read_until(stream, deadline, |heard| heard.contains(&b'\n')).map(|head| text(&head))
}

/// What is said until it is enough, or ends, or is too much. What comes in drops has the same deadline.
fn read_until(mut stream: TcpStream, deadline: Instant, enough: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    let (mut heard, mut part) = (Vec::new(), [0; 256]);
    while heard.len() < HEAD_BYTES && !enough(&heard) {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => heard.extend(&part[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(heard)
}

fn text(heard: &[u8]) -> String {
    String::from_utf8_lossy(heard).into_owned()
}

/// The line with the protocol's version; a server may say other lines before it (RFC 4253, 4.2).
fn greeting(heard: &[u8]) -> Option<String> {
    let whole = heard.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    whole.map(text).map(|line| line.trim_end().to_owned()).find(|line| line.starts_with("SSH-2.0-"))
}

fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream> {
    let mut last = Error::other(format!("{host} has no address"));
    for address in addresses(host, port)? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// IPv6 addresses are written in brackets.
fn addresses(host: &str, port: u16) -> Result<std::vec::IntoIter<SocketAddr>> {
    (host.trim_start_matches('[').trim_end_matches(']'), port).to_socket_addrs()
}

fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Serves one caller with these words.
    fn served(words: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /up HTTP/1.0\r\n"));
            stream.write_all(words.as_bytes()).unwrap();
        });
        format!("http://{address}/up")
    }

    #[test]
    fn a_2xx_is_an_answer_and_anything_else_is_told() {
        let ask = |check: String| ask(&check.parse().unwrap(), Duration::from_secs(5));
        assert!(ask(served("HTTP/1.0 204 No Content\r\n\r\n")).unwrap().ends_with("answers HTTP/1.0 204 No Content"));
        assert!(ask(served("HTTP/1.0 503 Not yet\r\n\r\n")).unwrap_err().contains("503 Not yet"));
        assert!(ask(served("")).is_err());
    }

    /// Says something as soon as somebody connects, after it has heard so many bytes.
    fn says(words: &'static [u8], hears: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = vec![0; hears];
            stream.read_exact(&mut heard).unwrap();
            stream.write_all(words).unwrap();
        });
        address
    }

    #[test]
    fn an_ssh_server_greets_and_others_are_told() {
        let ask = |words| ask(&format!("ssh:{}", says(words, 0)).parse().unwrap(), Duration::from_secs(5));
        assert!(ask(b"SSH-2.0-OpenSSH_9.2p1\r\n").unwrap().ends_with("greets with SSH-2.0-OpenSSH_9.2p1"));
        assert!(ask(b"authorised use only\r\nSSH-2.0-x\r\n").unwrap().ends_with("greets with SSH-2.0-x"));
        assert!(ask(b"220 mail.example ESMTP\r\n").unwrap_err().contains("which is no SSH server"));
        assert!(ask(b"SSH-1.5-old\r\n").unwrap_err().contains("which is no SSH server"));
        assert!(ask(b"").is_err());
    }

    #[test]
    fn an_rdp_server_confirms_a_connection_and_others_are_told() {
        let ask = |words| ask(&format!("rdp:{}", says(words, RDP_REQUEST.len())).parse().unwrap(), Duration::from_secs(5));
        assert!(ask(&[3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 0, 8, 0, 1, 0, 0, 0]).unwrap().ends_with("confirms a connection"));
        assert!(ask(&[3, 0, 0, 11, 6, 0x80, 0, 0, 0, 0, 0]).unwrap_err().contains("which is no RDP server"));
        assert!(ask(b"HTTP/1.0 400 Bad request\r\n").unwrap_err().contains("which is no RDP server"));
    }

    #[test]
    fn a_port_that_nobody_serves_is_told_at_once_and_one_that_is_silent_at_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(ask(&format!("tcp:{address}").parse().unwrap(), Duration::from_secs(5)).is_ok());
        let silent = ask(&format!("http://{address}/").parse().unwrap(), Duration::from_millis(50));
        assert!(silent.unwrap_err().contains("no answer"));
        drop(listener);
        assert!(ask(&format!("tcp:{address}").parse().unwrap(), Duration::from_secs(5)).is_err());
    }
}
