//! The client against QEMU, and against servers that say anything at all.

use std::{
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
};

use super::*;
use crate::qemu::{Access, Served, create, create_on};

fn served(dir: &Path, name: &str, access: Access) -> Served {
    Served::open(dir, &dir.join(name), access, None).unwrap()
}

/// Small numbers that look random, the same at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn random_requests_leave_the_same_content_as_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let size = 8 << 20;
    create(&dir.path().join("d"), size).unwrap();
    let mut served = served(dir.path(), "d", Access::Write);
    let client = served.client().unwrap();
    assert_eq!(client.size(), size);
    let mut model = vec![0; usize::try_from(size).unwrap()];
    let mut dice = Dice(42);
    for round in 0..400_u32 {
        let offset = dice.below(size / 512) * 512;
        let length = (dice.below(400) * 512 + 512).min(size - offset);
        let range = usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
        match dice.below(4) {
            0 => {
                let byte = (round % 251) as u8 + 1;
                model[range.clone()].fill(byte);
                client.write(offset, &model[range]).unwrap();
            }
            1 => {
                model[range].fill(0);
                client.write_zeroes(offset, length).unwrap();
            }
            2 => client.flush().unwrap(),
            _ => {
                let mut read = vec![0xff; range.len()];
                client.read(offset, &mut read).unwrap();
                assert!(read == model[range], "round {round}");
            }
        }
    }
    served.close().unwrap();

    let mut served = Served::open(dir.path(), &dir.path().join("d"), Access::Read, None).unwrap();
    let mut all = vec![0xff; model.len()];
    served.client().unwrap().read(0, &mut all).unwrap();
    assert!(all == model);
    served.close().unwrap();
}

#[test]
fn extents_cover_the_export_once_and_tell_holes_from_content() {
    let dir = tempfile::tempdir().unwrap();
    let size = 5_u64 << 30; // more than one span
    create(&dir.path().join("base"), size).unwrap();
    create_on(&dir.path().join("top"), &dir.path().join("base")).unwrap();
    let written = [(1_u64 << 20, 65_536_u64), (3 << 30, 131_072)];
    let mut writing = served(dir.path(), "top", Access::Write);
    for (offset, length) in written {
        writing.client().unwrap().write(offset, &vec![7; usize::try_from(length).unwrap()]).unwrap();
    }
    writing.close().unwrap();
    let mut reading = served(dir.path(), "top", Access::Read);
    let extents = reading.client().unwrap().extents().unwrap();
    let mut end = 0;
    for extent in &extents {
        assert_eq!(extent.offset, end);
        end += extent.length;
    }
    assert_eq!(end, size);
    let content: Vec<(u64, u64)> = extents.iter().filter(|e| e.flags & 1 == 0).map(|e| (e.offset, e.length)).collect();
    assert_eq!(content, written);
    reading.close().unwrap();
}

#[test]
fn a_request_outside_the_export_is_refused_here() {
    let dir = tempfile::tempdir().unwrap();
    create(&dir.path().join("d"), 1 << 20).unwrap();
    let mut served = served(dir.path(), "d", Access::Write);
    let client = served.client().unwrap();
    assert!(matches!(client.read(1 << 20, &mut [0; 512]), Err(NbdError::OutOfRange { .. })));
    assert!(matches!(client.write(u64::MAX, &[0; 512]), Err(NbdError::OutOfRange { .. })));
    client.trim(0, 65_536).unwrap();
    client.read(0, &mut [0; 512]).unwrap();
}

#[test]
fn a_write_to_a_read_only_export_fails_and_the_conversation_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    create(&dir.path().join("d"), 1 << 20).unwrap();
    let mut served = served(dir.path(), "d", Access::Read);
    let client = served.client().unwrap();
    assert!(matches!(client.write_zeroes(0, 512), Err(NbdError::Failed { .. })));
    client.read(0, &mut [0; 512]).unwrap();
}

#[test]
fn a_context_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    create(&dir.path().join("d"), 1 << 20).unwrap();
    let opened = Served::open(dir.path(), &dir.path().join("d"), Access::Read, Some("nope"));
    assert!(opened.unwrap_err().to_string().contains("nope"));
}

/// A server that has said everything before it was asked.
struct Recorded {
    said: Cursor<Vec<u8>>,
}

impl Read for Recorded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.said.read(out)
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn greeting() -> Vec<u8> {
    let mut said = b"NBDMAGICIHAVEOPT\x00\x03".to_vec();
    let reply = |option: u32, kind: u32, body: &[u8]| {
        let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    };
    said.extend(reply(8, 1, &[]));
    said.extend(reply(10, 4, b"\x00\x00\x00\x05base:allocation"));
    said.extend(reply(10, 1, &[]));
    let mut export = vec![0, 0];
    export.extend((1_u64 << 20).to_be_bytes());
    export.extend([0, 1]);
    said.extend(reply(7, 3, &export));
    said.extend(reply(7, 1, &[]));
    said
}

#[test]
fn whatever_a_server_says_there_is_an_error_and_never_a_panic() {
    let good = greeting();
    let mut dice = Dice(7);
    for round in 0..20_000 {
        let mut said = good.clone();
        // A reply to one read, and noise in place of any byte, or the end at any byte.
        for _ in 0..=dice.below(3) {
            let chunk = [0x66, 0x8e, 0x33, 0xef, 0, (dice.below(2)) as u8, 0, dice.below(6) as u8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, dice.below(64) as u8];
            said.extend(chunk);
            let body: Vec<u8> = (0..dice.below(64)).map(|_| dice.below(256) as u8).collect();
            said.extend(body);
        }
        for _ in 0..dice.below(3) {
            let at = usize::try_from(dice.below(said.len() as u64)).unwrap();
            said[at] = dice.below(256) as u8;
        }
        said.truncate(usize::try_from(dice.below(said.len() as u64 + 1)).unwrap());
        let stream = Recorded { said: Cursor::new(said) };
        let Ok(mut client) = Client::agree(stream, "disk", Some("base:allocation")) else { continue };
        if round % 2 == 0 {
            let mut out = [0; 4096];
            let _outcome = client.read(0, &mut out);
        } else {
            let _outcome = client.extents();
        }
    }
    let stream = Recorded { said: Cursor::new(good) };
    assert_eq!(Client::agree(stream, "disk", Some("base:allocation")).unwrap().size(), 1 << 20);
}

#[test]
fn a_dropped_server_is_ended_and_its_socket_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let images = tempfile::tempdir().unwrap();
    let image: PathBuf = images.path().join("d");
    create(&image, 1 << 20).unwrap();
    let served = Served::open(dir.path(), &image, Access::Write, None).unwrap();
    drop(served);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    Served::open(dir.path(), &image, Access::Write, None).unwrap().close().unwrap();
    crate::qemu::end_orphans(dir.path()).unwrap();
}
