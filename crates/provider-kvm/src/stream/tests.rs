//! Frames that are changed on the way, and certificates of strangers.

use std::io::Cursor;

use super::frame::{self, Control, Frame};

fn sent(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::send(&mut bytes, frame).expect("memory takes it");
    bytes
}

fn frames() -> Vec<Frame> {
    vec![
        Frame::Control(Control::Begun),
        Frame::Control(Control::Begin { resume: true, disks: vec!["vda".to_owned(), "vdb".to_owned()] }),
        Frame::Write { disk: 1, offset: 65_536, content: vec![7; 4096] },
        Frame::Zero { disk: 0, offset: 1 << 40, length: 1 << 20 },
        Frame::Digests(vec![[9; 32], [8; 32]]),
    ]
}

#[test]
fn frames_read_back() {
    for frame in frames() {
        assert_eq!(frame::receive(&mut Cursor::new(sent(&frame))).expect("whole"), frame);
    }
}

#[test]
fn a_changed_byte_of_content_is_noticed_before_it_is_written() {
    let bytes = sent(&Frame::Write { disk: 1, offset: 65_536, content: vec![7; 512] });
    for place in 19..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 0x40;
        assert!(frame::receive(&mut Cursor::new(changed)).is_err(), "byte {place}");
    }
}

#[test]
fn a_frame_cut_anywhere_is_no_frame() {
    for frame in frames() {
        let bytes = sent(&frame);
        for end in 0..bytes.len() {
            assert!(frame::receive(&mut Cursor::new(&bytes[..end])).is_err());
        }
    }
}

#[test]
fn nonsense_is_refused_without_a_large_allocation() {
    for nonsense in [&[0xff; 64][..], &[0, 0, 0, 0, 1][..], b"GET / HTTP/1.0\r\n\r\n", &[0, 0, 0, 5, 77, 1, 2, 3, 4][..]] {
        assert!(frame::receive(&mut Cursor::new(nonsense)).is_err());
    }
}
