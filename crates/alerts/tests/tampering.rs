//! Whatever is changed of a signed delivery, it is believed no more.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use chrono::DateTime;
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use sha2::Sha256;
use switchback_alerts::{AuthError, Headers, Key, Secret, Settings, authenticate};

const SECRET: &str = "a-secret-for-these-tests";
const NOW: i64 = 1_795_384_800;
const TIME: &str = "x-signed-at";

fn signature(parts: &[&[u8]]) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    hex::encode(mac.finalize().into_bytes())
}

/// What is sent: a signature, a time in a header, a body.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    signature: Vec<u8>,
    time: Vec<u8>,
    body: Vec<u8>,
}

impl Sent {
    fn grafana(body: &[u8], at: i64) -> Self {
        let time = at.to_string();
        Self { signature: signature(&[time.as_bytes(), b":", body]).into(), time: time.into(), body: body.to_owned() }
    }

    fn pagerduty(text: &str) -> Self {
        let body = serde_json::json!({"event": {"occurred_at": "2026-11-22T21:59:55.000Z", "text": text}}).to_string().into_bytes();
        Self { signature: format!("v1={}", signature(&[&body])).into(), time: vec![], body }
    }

    fn as_grafana(&self) -> Result<(), AuthError> {
        let headers = [("X-Grafana-Alerting-Signature", &self.signature[..]), ("X-Signed-At", &self.time)];
        judged(&Settings::Grafana { timestamp_header: Some(TIME.to_owned()) }, headers.into_iter().collect(), &self.body)
    }

    fn as_pagerduty(&self) -> Result<(), AuthError> {
        let headers = [("X-PagerDuty-Signature", &self.signature[..])].into_iter().collect();
        judged(&Settings::PagerDuty { max_age_s: Settings::PAGERDUTY_AGE_S }, headers, &self.body)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for this call")]
fn judged(settings: &Settings, headers: Headers, body: &[u8]) -> Result<(), AuthError> {
    let keys = [Key::Signs(Secret::chosen(SECRET).unwrap())];
    authenticate(settings, &keys, &headers, body, DateTime::from_timestamp(NOW, 0).unwrap())
}

/// The same with one bit turned, in any of the parts.
fn turned(sent: &Sent, place: prop::sample::Index, bit: u8) -> Sent {
    let mut turned = sent.clone();
    let lengths = [sent.signature.len(), sent.time.len(), sent.body.len()];
    let at = place.index(lengths.iter().sum());
    let byte = if at < lengths[0] {
        &mut turned.signature[at]
    } else if at < lengths[0] + lengths[1] {
        &mut turned.time[at - lengths[0]]
    } else {
        &mut turned.body[at - lengths[0] - lengths[1]]
    };
    *byte ^= 1 << (bit % 8);
    turned
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn a_turned_bit_of_body_signature_or_time_is_refused(body in prop::collection::vec(any::<u8>(), 0..200), place: prop::sample::Index, bit: u8) {
        let sent = Sent::grafana(&body, NOW - 5);
        prop_assert_eq!(sent.as_grafana(), Ok(()));
        prop_assert!(turned(&sent, place, bit).as_grafana().is_err());
    }

    #[test]
    fn a_turned_bit_of_an_event_or_its_signature_is_refused(text in ".{0,40}", place: prop::sample::Index, bit: u8) {
        let sent = Sent::pagerduty(&text);
        prop_assert_eq!(sent.as_pagerduty(), Ok(()));
        prop_assert!(turned(&sent, place, bit).as_pagerduty().is_err());
    }

    #[test]
    fn only_a_time_within_five_minutes_is_believed(offset in -1_000_i64..1_000) {
        let judged = Sent::grafana(b"{}", NOW + offset).as_grafana();
        let expected = match offset {
            ..-300 => Err(AuthError::Stale { age_s: -offset, most_s: 300 }),
            -300..=300 => Ok(()),
            301.. => Err(AuthError::Ahead { ahead_s: offset, most_s: 300 }),
        };
        prop_assert_eq!(judged, expected);
    }
}

#[test]
fn a_header_that_is_there_twice_is_refused_even_if_one_of_them_fits() {
    let Sent { signature, time, body } = Sent::grafana(b"{}", NOW);
    let headers = [("X-Grafana-Alerting-Signature", &signature[..]), ("x-grafana-alerting-signature", b"00"), ("X-Signed-At", &time)];
    let judged = judged(&Settings::Grafana { timestamp_header: Some(TIME.to_owned()) }, headers.into_iter().collect(), &body);
    assert_eq!(judged, Err(AuthError::Repeated("x-grafana-alerting-signature".to_owned())));
}
