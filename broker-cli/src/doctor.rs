//! `broker doctor`: looks at everything that a server needs of a backend, and says what to do about what is wrong.

mod checks;
mod server_report;

use std::process::ExitCode;

use clap::Args;

use crate::{Console, Outcome, hidden::Hidden};

/// Check a backend: prints ok, warn or fail for each check, with the remedy
///
/// The exit status is 0 if nothing failed. A line with - was not checked, and gives the reason. The command subscribes
/// and publishes to channels `doctor.…` of its own, and stores one revocation of a user that does not exist; it changes
/// nothing else.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// The backend, as in redis://localhost
    url: Hidden,
    /// How long each check may take, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    limit: u64,
    /// Skip the revocation log, for an application that revokes no users
    #[arg(long)]
    without_revocations: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
    /// It could not be checked.
    Unknown,
}

/// What a check found.
#[derive(Debug)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    what: String,
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, what: what.into(), remedy: None }
    }

    fn warn(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn unknown(check: &'static str, what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, ..Self::ok(check, what) }
    }

    fn fail(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, what, remedy) }
    }
}

impl Doctor {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let mut failed = 0;
        let limit = std::time::Duration::from_secs(self.limit);
        let mut examination = checks::Examination::new(&self.url, limit, !self.without_revocations);
        // One by one: a check may take its whole limit, and what is known by then is shown.
        while let Some(finding) = examination.next().await {
            let Finding { check, verdict, what, remedy } = finding;
            let word = match verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "fail",
                Verdict::Unknown => "-",
            };
            failed += usize::from(verdict == Verdict::Fail);
            console.say(format!("{word:<5} {check:<12} {what}")).await?;
            if let Some(remedy) = remedy {
                console.say(format!("{:18} → {remedy}", "")).await?;
            }
        }
        examination.close().await;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
