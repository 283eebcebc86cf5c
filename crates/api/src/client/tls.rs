//! How a client knows its server, and how it is known itself.
//!
//! Invariant: a pinned CA must be among the certificates that the server shows, and the server's own certificate must then hold
//! by that CA and carry the server's name: a fingerprint replaces the CA's file, not the check.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};

/// Whom a client trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nobody: no TLS will be spoken.
    Nobody,
    /// CAs in PEM.
    Ca(Vec<u8>),
    /// The CA of this SHA-256, which the server shows itself.
    Pinned([u8; 32]),
}

/// A client's own certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its chain, PEM.
    pub certificate_pem: Vec<u8>,
    /// Its key, PEM.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// Why certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file holds none, or something else.
    #[error("{what} can't be read as PEM")]
    Pem {
        /// Of what.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// They can't be used together.
    #[error("{what} can't be used")]
    Tls {
        /// Of what.
        what: &'static str,
        /// Why.
        #[source]
        source: Error,
    },
}

/// The TLS side of a client.
pub(super) fn config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |what| move |source| TrustError::Tls { what, source };
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(unusable("TLS"))?;
    let builder = match trust {
        Trust::Nobody => builder.with_root_certificates(RootCertStore::empty()),
        Trust::Ca(pem) => builder.with_root_certificates(roots(pem)?),
        Trust::Pinned(sha256) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { sha256: *sha256, provider }))
        }
    };
    let Some(Identity { certificate_pem, key_pem }) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = rustls_pemfile::certs(&mut certificate_pem.as_slice()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|source| TrustError::Pem { what: "the own certificate", source })?;
    let key = rustls_pemfile::private_key(&mut key_pem.as_slice()).and_then(|key| key.ok_or_else(|| std::io::Error::other("it holds no key")));
    let key = key.map_err(|source| TrustError::Pem { what: "the own key", source })?;
    builder.with_client_auth_cert(chain, key).map_err(unusable("the own certificate"))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let unreadable = |source| TrustError::Pem { what: "the CA", source };
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut &*pem) {
        let added = roots.add(certificate.map_err(unreadable)?);
        added.map_err(|source| TrustError::Tls { what: "the CA", source })?;
    }
    if roots.is_empty() {
        return Err(unreadable(std::io::Error::other("it holds no certificate")));
    }
    Ok(roots)
}

#[derive(Debug)]
struct Pinned {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|certificate| <[u8; 32]>::from(Sha256::digest(certificate.as_ref())) == self.sha256);
        let ca = pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
