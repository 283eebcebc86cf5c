//! Asking a machine whether it serves: a TCP connect, or a GET that is answered with 2xx. Blocks; asks from wherever the calling
//! thread is.

use std::{
    io::{Error, Read, Result, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use recovery::Check;

/// The status line is in the first bytes.
const HEAD_BYTES: usize = 1024;

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
    }
}

/// The first line of the answer, or what came of it. One that comes in drops has the same deadline.
fn head(mut stream: TcpStream, deadline: Instant) -> Result<String> {
    let (mut head, mut part) = (Vec::new(), [0; 256]);
    while head.len() < HEAD_BYTES && !head.contains(&b'\n') {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => head.extend(&part[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
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
