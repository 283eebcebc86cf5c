//! A record set in a zone, replaced by a dynamic update (RFC 2136), signed by a shared key (RFC 8945).
//!
//! ```text
//!   over TCP: zone; delete the set NAME TYPE; add each value ─▶ NOERROR, signed ─▶ asked for the set: is it that?
//! ```
//!
//! Invariants: 1. The set is replaced in one message: nobody meets it empty. 2. With a key, an answer without its signature is none.
//! 3. If the server says that it answers for the zone and answers something else, the update was not done.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, str::FromStr};

use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype, UnknownRecordData,
        iana::{Class, Opcode, Rcode, TsigRcode},
        message_builder::AdditionalBuilder,
    },
    rdata::{A, Aaaa, AllRecordData, Cname, Ptr, Txt, tsig::Time48},
    tsig::{ClientTransaction, Key},
};
use provider::{ActionError, Done, Said};
use recovery::plan::action::{Dns, RecordType};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
};

use crate::{
    lacks,
    limits::{Limits, Over},
    owned, refused, tsig,
};

type Dname = Name<Vec<u8>>;

/// Why an update was not done, before limits are looked at.
enum NotDone {
    /// Not connected.
    Unreachable(std::io::Error),
    /// Sent, and then silence or nonsense.
    Unknown(String),
    /// The server said no.
    No { detail: String, advice: &'static str },
    /// The server said not now.
    NotNow(String),
}

pub(crate) async fn carry_out(dir: &Path, dns: &Dns, mut limits: Limits<'_>) -> Result<Done, ActionError> {
    let key = match &dns.key {
        None => None,
        Some(name) => Some(tsig::key(owned::secret(dir, name)?.text()).map_err(|why| {
            lacks(format!("secret {name} is no TSIG key: {why}"), "put the output of tsig-keygen there")
        })?),
    };
    match limits.wait(updated(dns, key.as_ref())).await {
        Ok(Ok(evidence)) => Ok(Done { evidence, status: Some(0), said: Said::default() }),
        Ok(Err(NotDone::Unreachable(error))) => Err(ActionError::Unreachable { target: format!("name server {}", dns.server), detail: error.to_string() }),
        Ok(Err(NotDone::Unknown(detail))) => Err(ActionError::Unknown { detail, said: Said::default() }),
        Ok(Err(NotDone::NotNow(detail))) => Err(ActionError::NotNow { detail }),
        Ok(Err(NotDone::No { detail, advice })) => Err(refused(detail, advice)),
        Err(Over::Unwanted) => Err(ActionError::Stopped),
        Err(Over::Late) => Err(ActionError::Unknown { detail: format!("name server {} had not answered after {}", dns.server, limits.within()), said: Said::default() }),
    }
}

async fn updated(dns: &Dns, key: Option<&Key>) -> Result<String, NotDone> {
    let (name, zone) = (named(&dns.name)?, named(&dns.zone)?);
    let mut server = connect(dns).await?;
    let id = rand::random::<u16>();
    let mut message = update(dns, &name, &zone, id)?;
    let signed = key.map(|key| ClientTransaction::request(key, &mut message, Time48::now()));
    let signed = signed.transpose().map_err(|error| NotDone::Unknown(format!("the update can't be signed: {error}")))?;
    let mut answer = exchange(&mut server, message.finish(), id, dns).await?;
    accepted(dns, &mut answer, signed.as_ref())?;
    let values: Vec<&str> = dns.values.iter().map(String::as_str).collect();
    let done = format!("name server {} takes {} {} = {} (ttl {} s)", dns.server, dns.name, dns.record_type, values.join(", "), dns.ttl);
    let seen = seen(&mut server, dns, &name, key).await?;
    Ok(format!("{done}; {seen}"))
}

fn named(text: &str) -> Result<Dname, NotDone> {
    let no = |error: domain::base::name::FromStrError| NotDone::No { detail: format!("{text:?} is no domain name: {error}"), advice: "correct the plan" };
    Dname::from_str(text).map_err(no)
}

async fn connect(dns: &Dns) -> Result<TcpStream, NotDone> {
    let (host, port) = dns.address();
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(NotDone::Unreachable)?.collect();
    TcpStream::connect(addresses.as_slice()).await.map_err(NotDone::Unreachable)
}

fn update(dns: &Dns, name: &Dname, zone: &Dname, id: u16) -> Result<AdditionalBuilder<Vec<u8>>, NotDone> {
    let no = |error: &dyn std::fmt::Display| NotDone::No { detail: format!("the update can't be written: {error}"), advice: "correct the plan" };
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_opcode(Opcode::UPDATE);
    let mut zones = builder.question();
    zones.push((zone, Rtype::SOA, Class::IN)).map_err(|error| no(&error))?;
    let mut updates = zones.answer().authority();
    let rtype = rtype(dns.record_type);
    let nothing = UnknownRecordData::from_octets(rtype, [0_u8; 0]).map_err(|error| no(&error))?;
    updates.push((name, Class::ANY, 0, nothing)).map_err(|error| no(&error))?;
    for value in &dns.values {
        let pushed = match dns.record_type {
            RecordType::A => updates.push((name, Class::IN, dns.ttl, A::new(value.parse().map_err(|error| no(&error as &dyn std::fmt::Display))?))),
            RecordType::Aaaa => updates.push((name, Class::IN, dns.ttl, Aaaa::new(value.parse().map_err(|error| no(&error as &dyn std::fmt::Display))?))),
            RecordType::Cname => updates.push((name, Class::IN, dns.ttl, Cname::new(named(value)?))),
            RecordType::Ptr => updates.push((name, Class::IN, dns.ttl, Ptr::new(named(value)?))),
            RecordType::Txt => {
                let text: Txt<Vec<u8>> = Txt::build_from_slice(value.as_bytes()).map_err(|error| no(&error))?;
                updates.push((name, Class::IN, dns.ttl, text))
            }
        };
        pushed.map_err(|error| no(&error))?;
    }
    Ok(updates.additional())
}

fn rtype(of: RecordType) -> Rtype {
    match of {
        RecordType::A => Rtype::A,
        RecordType::Aaaa => Rtype::AAAA,
        RecordType::Cname => Rtype::CNAME,
        RecordType::Ptr => Rtype::PTR,
        RecordType::Txt => Rtype::TXT,
    }
}

/// One message there and one back, each behind its length.
async fn exchange(server: &mut TcpStream, message: Vec<u8>, id: u16, dns: &Dns) -> Result<Message<Vec<u8>>, NotDone> {
    let lost = |error: std::io::Error| NotDone::Unknown(format!("name server {} broke off: {error}", dns.server));
    let length = u16::try_from(message.len()).map_err(|_long| NotDone::No { detail: "the update is longer than a message may be".to_owned(), advice: "name fewer values" })?;
    server.write_all(&[&length.to_be_bytes()[..], &message].concat()).await.map_err(lost)?;
    let length = server.read_u16().await.map_err(lost)?;
    let mut answer = vec![0; length.into()];
    server.read_exact(&mut answer).await.map_err(lost)?;
    let answer = Message::from_octets(answer).map_err(|_short| NotDone::Unknown(format!("name server {} answers nonsense", dns.server)))?;
    if answer.header().id() != id || !answer.header().qr() {
        return Err(NotDone::Unknown(format!("name server {} answers something else", dns.server)));
    }
    Ok(answer)
}

/// Whether the server has done it. What it refuses for the key's sake it can't sign.
fn accepted(dns: &Dns, answer: &mut Message<Vec<u8>>, signed: Option<&ClientTransaction<&Key>>) -> Result<(), NotDone> {
    let rcode = answer.header().rcode();
    let server = &dns.server;
    if let Some(why) = key_refused(answer) {
        let advice = "compare the key's name, algorithm and secret with the server's, and both clocks";
        return Err(NotDone::No { detail: format!("name server {server} does not take the key: {why}"), advice });
    }
    if rcode == Rcode::NOERROR {
        let Some(signed) = signed else { return Ok(()) };
        let unsigned = |error: domain::tsig::ValidationError| NotDone::Unknown(format!("the answer of name server {server} is not signed as it should be: {error}"));
        return signed.answer(answer, Time48::now()).map_err(unsigned);
    }
    let detail = format!("name server {server} answers {rcode} to the update of {} in zone {}", dns.name, dns.zone);
    Err(match rcode {
        Rcode::SERVFAIL => NotDone::NotNow(detail),
        Rcode::REFUSED => NotDone::No { detail, advice: "allow updates of this name with this key at the server" },
        Rcode::NOTAUTH => NotDone::No { detail, advice: "name the primary server of the zone, and a key that it knows" },
        Rcode::NOTZONE => NotDone::No { detail, advice: "name the zone that the name lies in" },
        _ => NotDone::No { detail, advice: "look at the server's log" },
    })
}

fn key_refused(answer: &Message<Vec<u8>>) -> Option<TsigRcode> {
    let last = answer.additional().ok()?.filter_map(Result::ok).last()?;
    let tsig = last.into_record::<domain::rdata::Tsig<_, domain::base::ParsedName<_>>>().ok()??;
    Some(tsig.data().error()).filter(|error| *error != TsigRcode::NOERROR)
}

/// Asks the same server for the set, as the evidence that it is there.
async fn seen(server: &mut TcpStream, dns: &Dns, name: &Dname, key: Option<&Key>) -> Result<String, NotDone> {
    let id = rand::random::<u16>();
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    let mut questions = builder.question();
    if questions.push((name, rtype(dns.record_type), Class::IN)).is_err() {
        return Ok("it could not be asked for it".to_owned());
    }
    let mut message = questions.additional();
    // With the key the server shows the same view of the zone as it has updated.
    let signed = key.and_then(|key| ClientTransaction::request(key, &mut message, Time48::now()).ok());
    let Ok(mut answer) = exchange(server, message.finish(), id, dns).await else { return Ok("asked for it, it did not answer".to_owned()) };
    let (rcode, authoritative) = (answer.header().rcode(), answer.header().aa());
    if signed.is_some_and(|signed| signed.answer(&mut answer, Time48::now()).is_err()) || !authoritative {
        return Ok(format!("asked for it, it answers {rcode} and does not say that it has the zone"));
    }
    let found = values(&answer, name, rtype(dns.record_type));
    let wanted: BTreeSet<String> = dns.values.iter().filter_map(|value| canonical(dns.record_type, value)).collect();
    if found == wanted {
        return Ok("asked for it, it answers the same".to_owned());
    }
    let found: Vec<String> = found.into_iter().collect();
    Err(NotDone::Unknown(format!("name server {} took the update of {} and then answers {rcode} {}", dns.server, dns.name, found.join(", "))))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of some forty types we write five")]
fn values(answer: &Message<Vec<u8>>, name: &Dname, rtype: Rtype) -> BTreeSet<String> {
    let Ok(section) = answer.answer() else { return BTreeSet::new() };
    let records = section.limit_to::<AllRecordData<_, domain::base::ParsedName<_>>>().filter_map(Result::ok);
    let ours = records.filter(|record| record.owner() == name && record.rtype() == rtype);
    ours.filter_map(|record| match record.data() {
        AllRecordData::A(a) => Some(a.addr().to_string()),
        AllRecordData::Aaaa(aaaa) => Some(aaaa.addr().to_string()),
        AllRecordData::Cname(cname) => Some(lower(&cname.cname().to_string())),
        AllRecordData::Ptr(ptr) => Some(lower(&ptr.ptrdname().to_string())),
        AllRecordData::Txt(txt) => Some(String::from_utf8_lossy(&txt.text::<Vec<u8>>()).into_owned()),
        _ => None,
    })
    .collect()
}

/// As it reads back.
fn canonical(of: RecordType, value: &str) -> Option<String> {
    match of {
        RecordType::A => value.parse::<std::net::Ipv4Addr>().ok().map(|address| address.to_string()),
        RecordType::Aaaa => value.parse::<std::net::Ipv6Addr>().ok().map(|address| address.to_string()),
        RecordType::Cname | RecordType::Ptr => Some(lower(value)),
        RecordType::Txt => Some(value.to_owned()),
    }
}

fn lower(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
