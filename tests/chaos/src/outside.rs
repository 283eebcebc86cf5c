//! The ledger as a process: a socket in front, a file behind, and nothing is answered that is not on the disk.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};

use crate::{
    call::{Call, Line, now_ms},
    ledger::Ledger,
};

struct Book {
    ledger: Ledger,
    file: File,
}

/// Lines of a ledger's file.
///
/// # Errors
/// It can't be read, or holds something else.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        text => text.with_context(|| format!("reading {}", path.display()))?,
    };
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{} holds {line:?}", path.display()))).collect()
}

/// Answers calls until the process ends.
///
/// # Errors
/// The address or the file can't be used.
pub fn serve(listen: SocketAddr, path: &Path) -> Result<()> {
    let ledger = Ledger::after(&read(path)?);
    let file = File::options().create(true).append(true).open(path).with_context(|| format!("opening {}", path.display()))?;
    let book = Arc::new(Mutex::new(Book { ledger, file }));
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    for stream in listener.incoming() {
        let (stream, book) = (stream.context("accepting a caller")?, book.clone());
        // A caller that is stopped between connecting and asking holds its own thread only.
        std::thread::spawn(move || {
            if let Err(error) = converse(&stream, &book) {
                eprintln!("a caller was left without an answer: {error:#}");
            }
        });
    }
    Ok(())
}

fn converse(stream: &TcpStream, book: &Mutex<Book>) -> Result<()> {
    let mut text = String::new();
    if BufReader::new(stream).read_line(&mut text).context("reading a call")? == 0 {
        return Ok(());
    }
    let call: Call = serde_json::from_str(&text).with_context(|| format!("a call is {text:?}"))?;
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = book.ledger.answer(&call);
    let line = serde_json::to_string(&Line { at_ms: now_ms(), call, answer })?;
    book.file.write_all(format!("{line}\n").as_bytes()).context("writing a line")?;
    book.file.sync_data().context("flushing a line")?;
    drop(book);
    let mut writer = stream;
    writer.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).context("answering")
}
