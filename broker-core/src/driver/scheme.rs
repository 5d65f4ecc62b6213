//! Scheme: what a URL's scheme says about the way to the server.

/// One URL scheme of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// As it is written: `redis`.
    pub name: &'static str,
    /// How frames get to the server.
    pub transport: Transport,
}

/// How frames get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// Within this machine: through this process, or a file.
    Local,
    /// Over the network, as they are.
    Plain {
        /// The port of a URL without one.
        default_port: u16,
        /// The scheme of the same backend that encrypts; `None` if there is none.
        encrypted: Option<&'static str>,
    },
    /// Over the network, encrypted.
    Encrypted,
    /// Over the network, encrypted if a key of the URL says so.
    ByKey {
        /// The port of a URL without one.
        default_port: u16,
        /// The key.
        key: &'static str,
        /// Its value for a connection that is not encrypted, which is also the one of a URL without the key.
        plain: &'static str,
    },
}

impl Scheme {
    /// A scheme for what does not leave this machine.
    #[must_use]
    pub const fn local(name: &'static str) -> Self {
        Self { name, transport: Transport::Local }
    }

    /// A scheme for a connection that is not encrypted.
    #[must_use]
    pub const fn plain(name: &'static str, default_port: u16, encrypted: Option<&'static str>) -> Self {
        Self { name, transport: Transport::Plain { default_port, encrypted } }
    }

    /// A scheme for a connection that is encrypted if `key` is there, and is not `plain`.
    #[must_use]
    pub const fn by_key(
        name: &'static str,
        default_port: u16,
        key: &'static str,
        plain: &'static str,
    ) -> Self {
        Self { name, transport: Transport::ByKey { default_port, key, plain } }
    }

    /// A scheme for a connection that is encrypted.
    #[must_use]
    pub const fn encrypted(name: &'static str) -> Self {
        Self { name, transport: Transport::Encrypted }
    }
}
