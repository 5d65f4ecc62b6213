//! UrlFile, TlsFiles: files that a URL names. They are read at every connect, so they may be renewed in place.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{BrokerUrl, Error, ErrorKind, Result};

/// A file that a key of a URL names. `Display` and `Debug` show key and path; what is in the file is never shown. Nor
/// is a path that looks like none: it may be what should be in the file.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlFile {
    key: &'static str,
    path: PathBuf,
}

impl UrlFile {
    /// The file of a key, if the URL has that key. Reads nothing.
    #[must_use]
    pub fn of(url: &BrokerUrl, key: &'static str) -> Option<Self> {
        url.key(key).map(|path| Self { key, path: path.into() })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in the file. A slow disk holds up no thread of the runtime.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the file cannot be read, with key, path and cause.
    pub async fn read(&self) -> Result<Vec<u8>> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let read =
            read.map_err(|_| Error::new(ErrorKind::Other, format!("reading {self} was interrupted")))?;
        read.map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("cannot read the file {self}: {error}"))
                .with_source(error)
        })
    }

    /// The error for a file that does not hold what it should. It says nothing of what the file does hold, and
    /// a driver adds no client's text: that may quote a line of a key.
    #[must_use]
    pub fn unusable(&self) -> Error {
        Error::new(ErrorKind::InvalidInput, format!("the contents of the file {self} are not valid"))
    }
}

impl fmt::Display for UrlFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_path(&self.path) {
            write!(f, "{}={}", self.key, self.path.display())
        } else {
            write!(f, "{}=*** (no path; begin it with / or ./)", self.key)
        }
    }
}

impl fmt::Debug for UrlFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UrlFile({self})")
    }
}

/// Whether it is written as paths are: from a root or a folder, or with the short ending of a file's name. A key in
/// PEM, a seed and a token are not.
fn is_path(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let ending = path.extension().is_some_and(|ending| (1..=6).contains(&ending.len()));
    let begins =
        path.has_root() || text.starts_with("./") || text.starts_with("../") || text.starts_with("~/");
    (begins || ending) && !text.contains(char::is_control) && !text.contains("-----")
}

/// The PEM files of an encrypted connection, from the keys [`TlsFiles::KEYS`]. `Display` shows keys and paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The roots to trust, and no others; without it the driver's usual ones.
    pub ca: Option<UrlFile>,
    /// The client's certificate, and its key.
    pub client: Option<(UrlFile, UrlFile)>,
}

impl TlsFiles {
    /// The keys of a URL that name these files.
    pub const KEYS: &'static [&'static str] = &["ca", "cert", "key"];

    /// How a URL wants its connection encrypted: `None` if not, which is for every scheme but `secure`. `built_in`
    /// says whether this build can encrypt: mostly `cfg!(feature = "tls")`. Reads nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for these keys on another scheme, or for one of `cert` and `key` without the
    /// other; [`ErrorKind::Unsupported`] for the scheme `secure` in a build that cannot encrypt.
    pub fn parse(url: &BrokerUrl, secure: &str, built_in: bool) -> Result<Option<Self>> {
        if url.scheme() != secure {
            return match Self::KEYS.iter().find(|key| url.key(key).is_some()) {
                None => Ok(None),
                Some(key) => Err(url.invalid(format!("has the key `{key}`, which is only for {secure}://"))),
            };
        }
        Self::of(url, built_in).map(Some)
    }

    /// The files of a URL that wants its connection encrypted, by whatever it says so. Reads nothing.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), for such a URL.
    pub fn of(url: &BrokerUrl, built_in: bool) -> Result<Self> {
        if !built_in {
            let message = format!("url `{url}` needs the cargo feature `tls`; enable it");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let client = match (UrlFile::of(url, "cert"), UrlFile::of(url, "key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => return Err(url.invalid("has only one of the keys `cert` and `key`; give both or none")),
        };
        Ok(Self { ca: UrlFile::of(url, "ca"), client })
    }

    /// As [`UrlFile::unusable`], when it is not known which of the files it is, or when they do not fit each other.
    #[must_use]
    pub fn unusable(&self) -> Error {
        let message = format!("one of the PEM files is not valid: {self}");
        Error::new(ErrorKind::InvalidInput, message)
    }
}

impl fmt::Display for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        let files: Vec<_> = self.ca.iter().chain(client).map(ToString::to_string).collect();
        f.write_str(&files.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, built_in: bool) -> Result<Option<TlsFiles>> {
        TlsFiles::parse(&BrokerUrl::parse(url).unwrap(), "rediss", built_in)
    }

    #[test]
    fn only_the_secure_scheme_has_files() {
        assert_eq!(parse("redis://h", true).unwrap(), None);
        assert_eq!(parse("rediss://h", true).unwrap(), Some(TlsFiles::default()));
        let files = parse("rediss://h?ca=/ca&cert=/cert&key=/key", true).unwrap().unwrap();
        assert_eq!(files.to_string(), "ca=/ca, cert=/cert, key=/key");
        assert_eq!(files.ca.unwrap().path(), Path::new("/ca"));
    }

    #[test]
    fn invalid_combinations_are_named() {
        for (url, built_in, kind, part) in [
            (
                "redis://h?cert=/cert&key=/key",
                true,
                ErrorKind::InvalidInput,
                "`cert`, which is only for rediss://",
            ),
            ("rediss://h?cert=/cert", true, ErrorKind::InvalidInput, "give both"),
            ("rediss://h?key=/key", true, ErrorKind::InvalidInput, "give both"),
            ("rediss://h", false, ErrorKind::Unsupported, "feature `tls`"),
        ] {
            let error = parse(url, built_in).expect_err(url);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn an_inline_certificate_is_not_shown() {
        for value in [
            "SUAs3cretS3CRET",
            "-----BEGIN PRIVATE KEY-----\ns3cret/+=\n-----END",
            "eyJ0.eyJz.s3cretsig",
            "s3cret",
        ] {
            let file = UrlFile { key: "nkey", path: value.into() };
            let error = file.read().await.unwrap_err();
            let shown = format!("{error} {error:?} {file} {file:?} {}", file.unusable());
            assert!(shown.contains("nkey=***") && !shown.contains("s3cret"), "{shown}");
        }
        for path in ["/run/secrets/seed", "./seed", "../seed", "~/seed", "nats.creds", "tls/key.pem"] {
            let file = UrlFile { key: "key", path: path.into() };
            assert_eq!(file.to_string(), format!("key={path}"));
        }
    }

    #[tokio::test]
    async fn a_file_is_named_by_its_key_and_path_and_not_quoted() {
        let file = |path: &str| UrlFile { key: "key", path: path.into() };
        let error = file("/no/such/file").read().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("key=/no/such/file"), "{error}");
        let own = file(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        assert!(own.read().await.unwrap().starts_with(b"[package]"));
        let error = own.unusable();
        assert!(error.message().contains("Cargo.toml") && !error.message().contains("[package]"), "{error}");
    }
}
