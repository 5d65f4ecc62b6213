//! RabbitConfig: what every RabbitMQ of the suite is told, wherever it runs.

use std::path::{Path, PathBuf};

use crate::servers::certificates::Certificates;

/// The files of a server that speaks TLS: the setting in its configuration, that of Erlang, and the file.
pub(crate) fn tls_files(certificates: &Certificates) -> [(&'static str, PathBuf); 3] {
    [
        ("cacertfile", certificates.authority()),
        ("certfile", certificates.server()),
        ("keyfile", certificates.server_key()),
    ]
}

/// The lines of a configuration for TLS at `place`, an address or a port. Whoever connects may show a certificate
/// or none.
pub(crate) fn tls_lines(place: &str, files: &[(&str, PathBuf)]) -> String {
    let files = files.iter().map(|(setting, file)| format!("ssl_options.{setting} = {}\n", file.display()));
    format!("listeners.ssl.1 = {place}\n{}", files.collect::<String>())
}

/// An expression that opens one more port for TLS, where whoever connects must show a certificate. The options in
/// a configuration are for all ports alike.
pub(crate) fn demanding_listener(ip: &str, port: u16, files: &[(&str, PathBuf)]) -> String {
    let file = |(setting, file): &(&str, PathBuf)| format!("{{{setting}, {}}}, ", string(file));
    let files: String = files.iter().map(file).collect();
    format!(
        "rabbit_networking:start_ssl_listener({{\"{ip}\", {port}}}, \
         [{files}{{verify, verify_peer}}, {{fail_if_no_peer_cert, true}}], 1)"
    )
}

/// A path as an Erlang string.
fn string(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
