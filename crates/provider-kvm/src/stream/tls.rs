//! TLS between agents: both show a certificate of the one authority.

use std::{fmt, sync::Arc};

use provider::{Applied, ProviderError};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};

/// Who this agent is to other agents.
#[derive(Clone)]
pub struct TlsIdentity {
    /// Certificates of the authority that all agents trust.
    pub ca_pem: String,
    /// This agent's certificate, then those between it and the authority. Valid for client and server use.
    pub cert_pem: String,
    pub key_pem: String,
    /// A DNS name or an address for which the certificate is valid; sources check it.
    pub name: String,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Ready for both directions.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    pub(crate) fn new(identity: &TlsIdentity) -> Result<Self, ProviderError> {
        let failed = |detail: String| ProviderError::Platform {
            operation: "use the certificate of".to_owned(),
            target: identity.name.clone(),
            detail,
            applied: Applied::No,
        };
        let certificates = |pem: &str| -> Result<Vec<CertificateDer<'static>>, ProviderError> {
            rustls_pemfile::certs(&mut pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| failed(e.to_string()))
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&identity.ca_pem)? {
            roots.add(certificate).map_err(|e| failed(e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&identity.cert_pem)?;
        let key: Option<PrivateKeyDer<'static>> =
            rustls_pemfile::private_key(&mut identity.key_pem.as_bytes()).map_err(|e| failed(e.to_string()))?;
        let key = key.ok_or_else(|| failed("its key file holds no key".to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let verifier = verifier.map_err(|e| failed(e.to_string()))?;
        let versions = &[&rustls::version::TLS13];
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .and_then(|b| b.with_client_cert_verifier(verifier).with_single_cert(chain.clone(), key.clone_key()))
            .map_err(|e| failed(e.to_string()))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .and_then(|b| b.with_root_certificates(roots).with_client_auth_cert(chain, key))
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}
