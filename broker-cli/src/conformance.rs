//! `broker conformance`: the project's own suite at a server of the user's.

use std::process::ExitCode;

use broker_conformance::external_server::{ExternalServer, Verdict};
use clap::Args;

use crate::{Console, Outcome, hidden::Hidden};

/// Run the conformance suite against a server of your own
///
/// Only cases that are safe for a server in use run: links are broken between here and the server, but no server is
/// killed, no permission changed and no revocation stored. All channels have a prefix of their own. On RabbitMQ an
/// exchange of that name remains. A case that needs more is skipped with the reason. The exit status is 0 if no case
/// failed.
#[derive(Args, Debug)]
pub(crate) struct Conformance {
    /// The backend, as in redis://localhost
    url: Hidden,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "PART")]
    case: Option<String>,
}

impl Conformance {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let server = external_server(&self.url).await?;
        let wanted = |name: &str| self.case.as_deref().is_none_or(|part| name.contains(part));
        let cases: Vec<_> = server.cases().filter(|case| wanted(case.name)).collect();
        if cases.is_empty() {
            return Err(format!(
                "no case has {:?} in its name; leave out --case to run all",
                self.case.unwrap_or_default()
            )
            .into());
        }
        console.note(format!("{} cases, on channels that begin with {}", cases.len(), server.prefix())).await;
        let (mut held, mut broken, mut left_out) = (0, 0, 0);
        for case in cases {
            let name = case.name.replace('_', " ");
            match server.run(case).await {
                Verdict::Holds => {
                    held += 1;
                    console.say(format!("ok    {name}")).await?;
                }
                Verdict::Broken(reason) => {
                    broken += 1;
                    console.say(format!("FAIL  {name}: {reason}")).await?;
                }
                Verdict::LeftOut(reason) => {
                    left_out += 1;
                    console.say(format!("-     {name}: {reason}")).await?;
                }
            }
        }
        console.say(format!("{held} passed, {broken} failed, {left_out} skipped")).await?;
        // A run in which nothing could be shown has shown nothing.
        Ok(if broken == 0 && held > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn external_server(url: &str) -> Result<ExternalServer, String> {
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    match broker::backends().iter().find(|backend| backend.scheme(scheme).is_some()) {
        Some(backend) => ExternalServer::new(url, *backend).await,
        None => {
            let schemes = broker::backends().iter().flat_map(|backend| backend.schemes);
            let known: Vec<&str> = schemes.map(|scheme| scheme.name).collect();
            Err(format!("url scheme `{scheme}` is unknown; this build has: {}", known.join(", ")))
        }
    }
}
