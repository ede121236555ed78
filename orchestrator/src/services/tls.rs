use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::error::{BoxError, Result, fatal};

/// Returns the cryptography of all clients. It is not installed as the default of the process, which
/// belongs to the program.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Begins a configuration.
pub(super) fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    let builder = ClientConfig::builder_with_provider(provider());
    Ok(builder.with_safe_default_protocol_versions()?)
}

/// Returns a configuration that checks the chain of certificates and the name of the host. It trusts
/// the certificates of a PEM file, or those of the system if there is no file.
pub(super) fn config(roots: Option<&str>) -> Result<ClientConfig> {
    let verified = match roots {
        Some(file) => builder()?.with_root_certificates(read_roots(file)?),
        None => system_roots()?,
    };
    Ok(verified.with_no_client_auth())
}

/// As [`config`], for connections that are not encrypted: a machine without certificates does for
/// them.
#[cfg(any(feature = "http", feature = "s3"))]
pub(super) fn config_for_plain(roots: Option<&str>) -> Result<ClientConfig> {
    match (config(roots), roots) {
        (Err(_), None) => {
            let builder = builder()?.with_root_certificates(RootCertStore::empty());
            Ok(builder.with_no_client_auth())
        }
        (config, _) => config,
    }
}

fn system_roots() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let verified = builder()?.with_platform_verifier();
    verified.map_err(|error| {
        let problem = "the certificates of the system cannot be read (Debian: `ca-certificates`)";
        format!("{problem}: {error}").into()
    })
}

/// Reads the certificates of a PEM file.
pub(super) fn read_roots(file: &str) -> Result<RootCertStore> {
    let problem = |error: BoxError| -> BoxError {
        format!("the certificates in `{file}` cannot be read: {error}").into()
    };
    let certificates = CertificateDer::pem_file_iter(Path::new(file));
    let mut roots = RootCertStore::empty();
    for certificate in certificates.map_err(|error| problem(error.into()))? {
        let certificate = certificate.map_err(|error| problem(error.into()))?;
        roots
            .add(certificate)
            .map_err(|error| problem(error.into()))?;
    }
    match roots.is_empty() {
        true => Err(fatal(format!(
            "expected certificates in PEM in `{file}`, got none"
        ))
        .into()),
        false => Ok(roots),
    }
}
