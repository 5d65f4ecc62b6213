//! Encryption: a client with the PEM files of a rediss:// URL.

use broker_core::{Result, driver::TlsFiles};
use redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};

pub(crate) async fn client(info: ConnectionInfo, files: &TlsFiles) -> Result<Client> {
    let mut certificates = TlsCertificates { client_tls: None, root_cert: None };
    if let Some(ca) = &files.ca {
        certificates.root_cert = Some(ca.read().await?);
    }
    if let Some((cert, key)) = &files.client {
        let (client_cert, client_key) = (cert.read().await?, key.read().await?);
        certificates.client_tls = Some(ClientTlsConfig { client_cert, client_key });
    }
    // The client's own text is left out: it may quote a line of the key file.
    Client::build_with_tls(info, certificates).map_err(|_| files.unusable())
}
