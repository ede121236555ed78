//! What `sslmode` and `sslrootcert` mean: what is checked of the other side of a connection.

use std::fmt;
use std::sync::Arc;

use deadpool_postgres::tokio_postgres::config::SslMode;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::error::{Result, fatal};
use crate::services::options::Options;
use crate::services::tls;

/// The value of `sslrootcert` for the certificates of the system.
const SYSTEM: &str = "system";

/// Returns the mode, and how TLS is done; `None` without TLS.
pub(super) fn read(options: &Options<'_>) -> Result<(SslMode, Option<ClientConfig>)> {
    let roots = options.text("sslrootcert");
    let is_system = roots == Some(SYSTEM);
    let mode = options.text("sslmode");
    let (mode, config) = match mode.unwrap_or("prefer") {
        "disable" => return Ok((SslMode::Disable, None)),
        "prefer" | "require" | "verify-ca" if is_system => {
            return Err(fatal(
                "`sslrootcert=system` takes certificates of any host: expected \
                 `sslmode=verify-full` with it",
            )
            .into());
        }
        "prefer" => (SslMode::Prefer, of_chain(roots)?),
        "require" => (SslMode::Require, of_chain(roots)?),
        "verify-ca" if roots.is_none() => {
            return Err(fatal(
                "expected `sslrootcert` with `sslmode=verify-ca`: the file, in PEM, with the \
                 certificate that the server's is signed by",
            )
            .into());
        }
        "verify-ca" => (SslMode::Require, of_chain(roots)?),
        "verify-full" => {
            let roots = roots.filter(|_| !is_system);
            (SslMode::Require, tls::config(roots)?)
        }
        "allow" => {
            return Err(fatal(
                "`sslmode=allow` is not supported: write `prefer`, which also takes servers without \
                 TLS",
            )
            .into());
        }
        _ => {
            let known = "`disable`, `prefer`, `require`, `verify-ca` or `verify-full`";
            return Err(options.invalid("sslmode", known).into());
        }
    };
    Ok((mode, Some(config)))
}

/// Returns a configuration that checks the chain of certificates but not the name of the host;
/// without a file of certificates, it checks nothing.
fn of_chain(roots: Option<&str>) -> Result<ClientConfig> {
    let verifier = ChainVerifier {
        roots: roots.map(tls::read_roots).transpose()?,
        algorithms: tls::provider().signature_verification_algorithms,
    };
    let builder = tls::builder()?.dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

/// Checks the chain of the server's certificate, if it has roots. That the server has the key of the
/// certificate is always checked.
struct ChainVerifier {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainVerifier")
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(certificate)?,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;

    fn error(options: &str) -> String {
        let shop = Connection::parse("shop", &format!("postgres://host/?{options}")).unwrap();
        read(&Options::open(&shop)).unwrap_err().to_string()
    }

    #[test]
    fn mode_that_is_not_known_is_refused_with_the_known_ones() {
        assert_eq!(
            error("sslmode=required"),
            "expected option `sslmode` to be `disable`, `prefer`, `require`, `verify-ca` or \
             `verify-full`; got `required`"
        );
        assert!(error("sslmode=allow").contains("write `prefer`"));
    }

    #[test]
    fn certificates_that_would_check_nothing_are_refused() {
        assert!(error("sslmode=verify-ca").starts_with("expected `sslrootcert`"));
        for mode in ["prefer", "require", "verify-ca"] {
            let error = error(&format!("sslmode={mode}&sslrootcert=system"));
            assert!(error.contains("expected `sslmode=verify-full`"), "{error}");
        }
        let error = error("sslmode=require&sslrootcert=/nowhere/ca.pem");
        assert!(
            error.contains("`/nowhere/ca.pem` cannot be read"),
            "{error}"
        );
    }
}
