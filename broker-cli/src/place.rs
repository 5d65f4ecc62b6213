//! Place: the URL of a command, which `Debug` does not show.

use std::{convert::Infallible, fmt, ops::Deref, str::FromStr};

/// A URL as it was typed. It may hold a password, and the commands derive `Debug`.
#[derive(Clone)]
pub(crate) struct Place(String);

impl FromStr for Place {
    type Err = Infallible;

    fn from_str(typed: &str) -> Result<Self, Infallible> {
        Ok(Self(typed.to_owned()))
    }
}

impl Deref for Place {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::Cli;

    #[test]
    fn debug_shows_no_url() {
        let url = "redis://ada:s3cret@localhost";
        for words in [
            &["sub", url, "news"][..],
            &["pub", url, "news", "hi"],
            &["revoke", url, "--user", "ada"],
            &["doctor", url],
            &["conformance", url],
            &["bench", url],
        ] {
            let cli = Cli::try_parse_from([&["broker"], words].concat()).expect("a command");
            let shown = format!("{cli:?} {cli:#?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
