//! Our own certificate authority: by its certificate server and agents know each other, and nobody else.
//!
//! Invariants: 1. The CA's key never leaves its directory. 2. A certificate says what its issuer decided: of an agent's request
//! only the key is taken. 3. The server's certificate is made anew at each start, for the names that it has then.

use std::{fs, io, net::IpAddr, path::Path};

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::state_dir::{StateDirError, write_whole};

const CA_DAYS: u64 = 3650;
const SERVER_DAYS: u64 = 398;
const AGENT_DAYS: u64 = 730;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be written.
    #[error("a certificate could not be kept")]
    File(#[from] StateDirError),
    /// A file could not be read.
    #[error("could not read {path}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The request holds no usable key, or its signature does not hold.
    #[error("the certificate request can't be used")]
    Request(#[source] rcgen::Error),
    /// Making a certificate failed.
    #[error("a certificate could not be made")]
    Making(#[source] rcgen::Error),
    /// TLS can't use it.
    #[error("a certificate can't be used")]
    Tls(#[source] rustls::Error),
}

/// The authority.
pub struct Authority {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that the authority made for itself.
pub(crate) struct ServerIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key_pem: String,
}

/// A certificate for an agent.
pub(crate) struct AgentCertificate {
    pub(crate) pem: String,
    pub(crate) sha256: [u8; 32],
}

impl Authority {
    /// Reads it from a directory, making it if there is none.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        if !certificate.exists() {
            make(&certificate, &key)?;
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(|source| CaError::Unreadable { path: path.display().to_string(), source });
        let certificate_pem = read(&certificate)?;
        let key = KeyPair::from_pem(&read(&key)?).map_err(CaError::Making)?;
        let unreadable = |source| CaError::Unreadable { path: certificate.display().to_string(), source };
        let der = rustls_pemfile::certs(&mut certificate_pem.as_bytes()).next();
        let der = der.unwrap_or_else(|| Err(io::Error::other("it holds no certificate"))).map_err(unreadable)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(CaError::Making)?;
        Ok(Self { certificate_pem, certificate: der, issuer })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// By which it is known, lower-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.certificate))
    }

    /// Until when it holds; `None` if its certificate does not say it legibly.
    pub(crate) fn expires_at(&self) -> Option<DateTime<Utc>> {
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.certificate).ok()?;
        DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// For the server itself, under these names and addresses.
    pub(crate) fn for_server(&self, names: &[String], addresses: &[IpAddr]) -> Result<ServerIdentity, CaError> {
        let key = KeyPair::generate().map_err(CaError::Making)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(CaError::Making)?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        let params = leaf(params, "switchback server", SERVER_DAYS, &[ExtendedKeyUsagePurpose::ServerAuth]);
        let made = params.signed_by(&key, &self.issuer).map_err(CaError::Making)?;
        Ok(ServerIdentity { chain: vec![made.der().clone(), self.certificate.clone()], key_pem: key.serialize_pem() })
    }

    /// For an agent's key. It serves its peers and is a client of theirs and ours.
    pub(crate) fn for_agent(&self, name: &str, csr_pem: &str) -> Result<AgentCertificate, CaError> {
        let asked = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
        let params = CertificateParams::new(vec![api::agent::tls_name(name)]).map_err(CaError::Request)?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let params = leaf(params, &format!("switchback agent {name}"), AGENT_DAYS, &usages);
        let request = CertificateSigningRequestParams { params, public_key: asked.public_key };
        let made = request.signed_by(&self.issuer).map_err(CaError::Making)?;
        Ok(AgentCertificate { pem: made.pem(), sha256: Sha256::digest(made.der()).into() })
    }
}

fn leaf(mut params: CertificateParams, subject: &str, days: u64, usages: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    named(&mut params, subject, days);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    params
}

/// From yesterday, because clocks differ.
fn named(params: &mut CertificateParams, subject: &str, days: u64) {
    let today = Utc::now().date_naive();
    let date = |day: NaiveDate| {
        let month = u8::try_from(day.month()).unwrap_or(1);
        rcgen::date_time_ymd(day.year(), month, u8::try_from(day.day()).unwrap_or(1))
    };
    params.not_before = date(today.checked_sub_days(Days::new(1)).unwrap_or(today));
    params.not_after = date(today.checked_add_days(Days::new(days)).unwrap_or(today));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
}

/// Key first: a certificate without its key would look complete.
fn make(certificate: &Path, key_path: &Path) -> Result<(), CaError> {
    let key = KeyPair::generate().map_err(CaError::Making)?;
    let mut params = CertificateParams::default();
    named(&mut params, &format!("switchback {}", hex::encode(rand::random::<[u8; 4]>())), CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = params.self_signed(&key).map_err(CaError::Making)?;
    write_whole(key_path, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(write_whole(certificate, made.pem().as_bytes(), 0o644)?)
}
