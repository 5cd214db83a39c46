//! Encrypted connections: rustls, with the system's certificates.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Socket;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};

/// What encrypts connections, if the server asks for it or the URL does (`sslmode`).
pub(super) type Tls = MakeRustlsConnect;

/// An encrypted connection.
pub(super) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Trusts the certificates of the system, or those that `SSL_CERT_FILE` names.
///
/// # Errors
///
/// `Storage` if rustls refuses its own defaults.
pub(super) fn tls() -> Result<Tls> {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be read is not trusted, and that is all.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::storage(format!("setting up TLS: {error}")).with_source(error))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}
