//! The address under which a copy is asked: one that its owner takes for a neighbour's, and that is nobody's.
//!
//! ```text
//!   target 10.1.0.19   alone on its network:   .18, in the smallest network that it can be in
//!                      beside other copies:    .18, else .21 .22 (one larger), else .25 …, the first of which no copy was asked at,
//!                                              that nobody else asks under, and at which nobody answers who has it
//! ```
//!
//! Copies keep the addresses that they have in production, and nobody told us those of all: so the network is asked, as a machine
//! asks that gets an address (RFC 5227), with a question that puts nothing into anybody's table of neighbours.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use provider::{Applied, ProviderError};
use sha2::{Digest, Sha256};

use super::{
    isolation::{Whose, change, whose},
    probe::{FAR_END, Room},
    shared::Reserved,
};
use crate::ffi;

/// An emulated guest on a busy host answers within milliseconds; one that boots does not answer at all.
const ANSWERS: Duration = Duration::from_millis(150);
/// In the largest network that is looked through there are more copies than a plan starts on one host.
const LARGEST: u32 = 256;

/// An address that is this end's until this is dropped: whoever keeps a connection from it keeps this as well.
#[derive(Debug)]
pub(super) struct Stand {
    _reserved: Option<Reserved>,
}

impl Stand {
    /// In the thread: gives its card (the far end of `port`) an address beside the target's: `alone` where no other copy is. All
    /// that this copy is asked at is known by then.
    pub(super) fn beside(room: &Room<'_>, port: &str, target: IpAddr, alone: (IpAddr, u8)) -> Result<Self, ProviderError> {
        let network = &room.names.network;
        let IpAddr::V4(v4) = target else { return Self::at(alone, None) };
        if !matches!(whose(network), Some(Whose::Copies(_))) {
            return Self::at(alone, None);
        }
        for own in around(v4) {
            let Some(reserved) = room.networks.reserve(network, own.into()) else { continue };
            let has = ffi::who_has(FAR_END, card(port), own, ANSWERS).map_err(|error| ProviderError::Platform {
                operation: "ask who has".to_owned(),
                target: own.to_string(),
                detail: error.to_string(),
                applied: Applied::No,
            })?;
            if !has {
                return Self::at((own.into(), alone.1), Some(reserved));
            }
            // Somebody lives there: nobody needs to ask again.
            room.networks.asked_at(network, own.into());
        }
        let detail = format!("every address beside {target} is taken by another copy, so nobody can ask there");
        Err(ProviderError::Platform { operation: "ask within".to_owned(), target: network.clone(), detail, applied: Applied::No })
    }

    fn at((own, bits): (IpAddr, u8), reserved: Option<Reserved>) -> Result<Self, ProviderError> {
        let no_wait = if own.is_ipv6() { " nodad" } else { "" };
        change(&format!("address replace {own}/{bits} dev {FAR_END}{no_wait}"))?;
        Ok(Self { _reserved: reserved })
    }
}

/// The hardware address of the far end of a port: one of those that are for local use.
fn card(port: &str) -> [u8; 6] {
    let hash = Sha256::digest(port);
    [0x02, hash[0], hash[1], hash[2], hash[3], hash[4]]
}

/// The same, as text.
pub(super) fn card_of(port: &str) -> String {
    card(port).map(|byte| format!("{byte:02x}")).join(":")
}

/// Addresses beside the target's, from the smallest network that it can be in to larger ones; none that could be a network's own
/// address or its broadcast address.
fn around(target: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
    let target = target.to_bits();
    let fits = move |own: &u32| *own != target && matches!(own & 3, 1 | 2);
    let ring = move |size: u32| {
        let (inner, outer) = (target & !(size / 2 - 1), target & !(size - 1));
        (outer..=outer | (size - 1)).filter(move |own| size == 4 || own & !(size / 2 - 1) != inner).filter(fits)
    };
    (2..=LARGEST.ilog2()).map(|bits| 1 << bits).flat_map(ring).map(Ipv4Addr::from_bits)
}

/// A neighbour of the neighbour: in the next smallest network beside the target's.
pub(super) fn apart(target: IpAddr) -> (IpAddr, u8) {
    let (own, bits) = beside(target);
    let own = match own {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ 4)),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ 4)),
    };
    (own, bits)
}

/// Another address in the smallest network that the target can be in, which its owner takes for a neighbour whatever its own idea of
/// the network's size; and the size that this end assumes.
pub(super) fn beside(target: IpAddr) -> (IpAddr, u8) {
    let neighbour = |low: u8| match low & 3 {
        1 => (low & !3) | 2,
        _ => (low & !3) | 1,
    };
    match target {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            (IpAddr::V4(Ipv4Addr::new(a, b, c, neighbour(d))), 24)
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[15] = neighbour(octets[15]);
            (IpAddr::V6(Ipv6Addr::from(octets)), 64)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_a_neighbour_and_never_the_target_itself() {
        for last in 0..=255 {
            let target = Ipv4Addr::new(10, 1, 0, last);
            let (IpAddr::V4(own), 24) = beside(IpAddr::V4(target)) else { panic!("not of its kind") };
            assert_ne!(own, target);
            assert_eq!(own.octets()[3] & !3, last & !3, "{own}");
            assert!(!matches!(own.octets()[3] & 3, 0 | 3), "{own} may be the network's own or its broadcast address");
        }
        let (link, _) = apart("10.1.0.19".parse().unwrap());
        assert_eq!(link.to_string(), "10.1.0.21");
        let near: Vec<String> = around("10.1.0.19".parse().unwrap()).take(6).map(|own| own.to_string()).collect();
        assert_eq!(near, ["10.1.0.17", "10.1.0.18", "10.1.0.21", "10.1.0.22", "10.1.0.25", "10.1.0.26"]);
        assert_eq!(around("10.1.0.255".parse().unwrap()).count(), 128, "two of each four");
        let (own, bits) = beside("fd00::5".parse().unwrap());
        assert_eq!((own.to_string().as_str(), bits), ("fd00::6", 64));
    }
}
