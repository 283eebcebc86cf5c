//! Frames that come back, and frames that must not.

use std::{io::Cursor, time::{Duration, Instant}};

use recovery::{Generation, PointId};

use super::*;

fn all() -> Vec<Frame> {
    let hello = Hello::new("vm".parse().unwrap(), Generation { era: 1, grant_epoch: 2 }, vec![("vda".into(), 1 << 20)]);
    vec![
        Frame::Hello(hello),
        Frame::Begin(Mode::Delta),
        Frame::Ready,
        Frame::Data { disk: 1, offset: 65_536, content: vec![7; 100] },
        Frame::Zero { disk: 0, offset: 1 << 40, length: 1 << 30 },
        Frame::AskDigests { disk: 0, offset: 0, length: 1 << 20 },
        Frame::Digests(vec![[1; 16], [2; 16]]),
        Frame::Committed(PointId(7)),
        Frame::AskWritten(AskWritten { disk: 1, mark: "sb.x".into(), first: 8, count: 16 }),
        Frame::Written(vec![1, 0]),
        Frame::Refused(provider::ProviderError::NoSuchReplica { item: "vm".parse().unwrap() }),
    ]
}

#[test]
fn every_frame_reads_back_and_every_flipped_byte_is_noticed() {
    for frame in all() {
        let mut written = vec![];
        frame.write(&mut written).unwrap();
        assert_eq!(Frame::read(&mut Cursor::new(&written)).unwrap(), frame);
        for at in 5..written.len() {
            let mut flipped = written.clone();
            flipped[at] ^= 0x10;
            assert!(Frame::read(&mut Cursor::new(&flipped)).is_err(), "{frame:?} at {at}");
        }
        assert!(Frame::read(&mut Cursor::new(&written[..written.len() - 1])).is_err());
    }
}

#[test]
fn a_frame_that_claims_to_be_huge_takes_no_memory() {
    let head = [5, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert!(matches!(Frame::read(&mut Cursor::new(head)), Err(StreamError::Protocol(_))));
}

#[test]
fn a_limited_stream_keeps_its_rate_over_time() {
    let start = Instant::now();
    let mut now = start;
    let mut limiter = Limiter::new(Some(1_000_000));
    for _ in 0..100 {
        now += limiter.sent(100_000, now);
    }
    let took = now - start;
    assert!(took > Duration::from_millis(9_500) && took < Duration::from_millis(10_500), "{took:?}");
    assert_eq!(Limiter::new(None).sent(u64::MAX, now), Duration::ZERO);
}

#[test]
fn a_zero_block_has_the_zero_digest_and_nothing_else_has() {
    assert_eq!(digest(&[0; BLOCK_BYTES]), [0; 16]);
    assert_ne!(digest(&[1; BLOCK_BYTES]), [0; 16]);
    assert_ne!(digest(&[1; 512]), digest(&[1; 1024]));
}

#[test]
fn an_end_of_a_copy_from_before_there_were_moments_is_one_without() {
    let earlier = r#"{"mark":"sb.x","consistency":"crash","taken_at":"2026-01-02T03:04:05Z","bytes":9}"#;
    let commit: Commit = serde_json::from_str(earlier).unwrap();
    assert_eq!((&commit.group, &commit.kept), (&None, &None));
    assert_eq!(serde_json::to_string(&commit).unwrap(), earlier);
    let group: recovery::GroupName = "shop".parse().unwrap();
    let at = recovery::GroupMoment { group: group.clone(), moment: "m1".into() };
    let kept = provider::group::KeptMoments { group, moments: ["m1".to_owned()].into() };
    let frame = Frame::Commit(Commit { group: Some(at), kept: Some(kept), ..commit });
    let mut written = vec![];
    frame.write(&mut written).unwrap();
    assert_eq!(Frame::read(&mut Cursor::new(&written)).unwrap(), frame);
}
