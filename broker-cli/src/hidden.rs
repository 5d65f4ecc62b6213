//! Hidden: an argument that may hold a secret, such as a URL, which `Debug` does not show.

use std::{convert::Infallible, fmt, ops::Deref, str::FromStr};

/// An argument as it was typed. The commands derive `Debug`. Clap takes it as it is, whose errors would show it.
#[derive(Clone)]
pub(crate) struct Hidden(String);

impl FromStr for Hidden {
    type Err = Infallible;

    fn from_str(typed: &str) -> Result<Self, Infallible> {
        Ok(Self(typed.to_owned()))
    }
}

impl Deref for Hidden {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::Cli;

    #[test]
    fn debug_shows_no_argument_that_may_be_secret() {
        let url = "redis://ada:s3cret@localhost";
        for words in [
            &["sub", url, "news"][..],
            &["pub", url, "news", "hi"],
            &["revoke", url, "--user", "ada"],
            &["doctor", url],
            &["conformance", url],
            &["bench", url],
            &["call", "ws://h?key=s3cret", "a.b", "{\"key\":\"s3cret\"}", "--token", "s3cret"],
            &["call", "ws://h", "a.b", "--header", "key=s3cret", "--cookie", "s3cret"],
            &["call", "ws://h", "a.b", "--input", "a=\"s3cret\"", "--class", "a=s3cret"],
        ] {
            let cli = Cli::try_parse_from([&["broker"], words].concat()).expect("a command");
            let shown = format!("{cli:?} {cli:#?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
