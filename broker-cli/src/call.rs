//! `broker call`: calls a method of a streaming server, and prints what happens in the call.

mod inputs;
mod print;
mod value;

use std::{process::ExitCode, time::Duration};

use broker_streams_client::{CallBuilder, CallError, Client, Event};
use clap::Args;
use serde_json::value::RawValue;
use tokio::{sync::mpsc, time::timeout};

use self::{inputs::Inputs, print::Printer, value::AnyValue};
use crate::{Console, Outcome, failure::Failure, hidden::Hidden};

/// Call a method of a streaming server, and print what it sends, one event per line, until it ends
///
/// Values are printed as JSON. Lines that begin with gap, resumed or restarted stand where values are or may be
/// missing, or were kept; the last begins with end. The exit status is 0 if the method has finished or the call was
/// cancelled by Ctrl-C, 2 for what the command line says wrongly, 3 for a fault, 4 if the call was refused, 5 if it was
/// closed, 6 without a connection, and 1 otherwise.
#[derive(Args, Debug)]
pub(crate) struct Call {
    /// The server, as in ws://localhost:8080/v1/websocket
    url: Hidden,
    /// The endpoint and its method, as in chat.room
    method: String,
    /// The arguments, a JSON object; by default {}
    args: Option<Hidden>,
    /// An input: its name, and a JSON value, a file with one on each line, or - for standard input; can be repeated
    #[arg(long = "input", value_name = "NAME=VALUES")]
    inputs: Vec<Hidden>,
    /// The class of an input's objects and lists, as in outgoing=Say; can be repeated
    #[arg(long = "class", value_name = "NAME=CLASS")]
    classes: Vec<Hidden>,
    /// A header of the request by which the socket is opened; can be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<Hidden>,
    /// The bearer token to show; by default the variable BROKER_TOKEN, which no list of processes shows
    #[arg(long, conflicts_with = "cookie")]
    token: Option<Hidden>,
    /// The cookie by which the server authenticates the call, as in sid=7
    #[arg(long, value_name = "NAME=VALUE")]
    cookie: Option<Hidden>,
    /// Go on when the socket is lost: with the same call, from its position, or anew
    #[arg(long)]
    resume: bool,
    /// Begin behind this position, for a method that knows some
    #[arg(long, value_name = "POSITION", conflicts_with = "plain")]
    cursor: Option<String>,
    /// Speak the protocol of Serverpod alone: no windows, reasons or resumption
    #[arg(long)]
    plain: bool,
    /// The time that the call has
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u32>,
    /// End after this many values
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print each event as a JSON object
    #[arg(long)]
    json: bool,
}

/// How long the last frames of a call have.
const FAREWELL: Duration = Duration::from_secs(2);

impl Call {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let client = self.client()?;
        let (report, mut wrong) = mpsc::channel(1);
        let call = self.call(&client, Inputs::new(&self.inputs, &self.classes, report)?, console).await?;
        let talk = self.talk(call, &mut wrong, console);
        let outcome = tokio::select! {
            biased;
            outcome = talk => Some(outcome),
            _ = tokio::signal::ctrl_c() => None,
        };
        // The call is cancelled by now, if it has not ended: what tells the server so goes out.
        let mut changes = client.status_changes();
        client.close();
        drop(client);
        let _ = timeout(FAREWELL, async { while changes.next().await.is_some() {} }).await;
        match outcome {
            Some(outcome) => outcome,
            None => {
                let line = Printer(self.json).end("cancelled", Vec::new());
                // Perhaps nobody reads it, and that is why the command is to end.
                timeout(FAREWELL, console.say(line)).await.unwrap_or(Ok(()))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    fn client(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder(&self.url);
        for header in &self.headers {
            let (name, value) = pair(header, "a --header", "origin=https://example.org")?;
            builder = builder.header(name, value);
        }
        if let Some(cookie) = &self.cookie {
            pair(cookie, "a --cookie", "sid=7")?;
            builder = builder.header("cookie", cookie).cookies();
        } else if let Some(token) =
            self.token.as_ref().map(|token| token.to_string()).or_else(token_of_environment)
        {
            let shown = format!("Bearer {token}");
            builder = builder.credentials(move || std::future::ready(Some(shown.clone())));
        }
        if self.plain {
            builder = builder.plain();
        }
        builder.build().map_err(|error| {
            Failure::usage(format!("{error}; a URL is like ws://localhost:8080/v1/websocket"))
        })
    }

    async fn call(
        &self,
        client: &Client,
        inputs: Inputs,
        console: &mut Console,
    ) -> Result<CallBuilder, Failure> {
        let (endpoint, method) = self
            .method
            .rsplit_once('.')
            .filter(|(endpoint, method)| !endpoint.is_empty() && !method.is_empty())
            .ok_or_else(|| {
                Failure::usage(format!(
                    "the method {:?} has no endpoint; give both, as in chat.room",
                    self.method
                ))
            })?;
        let mut call = client.call(endpoint, method);
        if let Some(args) = &self.args {
            let object = serde_json::from_str::<&RawValue>(args).map_err(|error| {
                Failure::usage(format!(
                    "the arguments are not JSON: {error}; give an object, as in '{{\"room\":\"a\"}}'"
                ))
            })?;
            call = call.args(object).map_err(|_| {
                Failure::usage("the arguments are not a JSON object; give one, as in '{\"room\":\"a\"}'")
            })?;
        }
        if let Some(seconds) = self.deadline {
            call = call.deadline(Duration::from_secs(seconds.into()));
        }
        if let Some(cursor) = &self.cursor {
            call = call.cursor(cursor);
        }
        if self.resume {
            call = call.resume();
        }
        inputs.open(call, console).await
    }

    /// From the opening to the end.
    async fn talk(
        &self,
        call: CallBuilder,
        wrong: &mut mpsc::Receiver<Failure>,
        console: &mut Console,
    ) -> Outcome {
        let opened = async {
            let events = call.open::<AnyValue>().await?.events();
            console.note(format!("opened {}", self.method)).await;
            Ok(events)
        };
        let printer = Printer(self.json);
        let mut events = match opened.await {
            Ok(events) => events,
            Err(error) => return self.failed(&error, None, console).await,
        };
        let mut left = self.count;
        while left != Some(0) {
            let event = tokio::select! {
                biased;
                Some(failure) = wrong.recv() => {
                    console.say(printer.end("cancelled", Vec::new())).await?;
                    return Err(failure.into());
                }
                event = events.next() => event,
            };
            let line = match event {
                None => {
                    console.say(printer.end("finished", Vec::new())).await?;
                    return Ok(ExitCode::SUCCESS);
                }
                Some(Err(error)) if error.is_final() => {
                    return self.failed(&error, Some("cancelled"), console).await;
                }
                Some(Err(error)) => printer.unreadable(&error),
                Some(Ok(event)) => {
                    if matches!(event, Event::Value(_)) {
                        left = left.map(|left| left - 1);
                    }
                    printer.event(&event)
                }
            };
            console.say(line).await?;
        }
        console.say(printer.end("cancelled", Vec::new())).await?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints how the call ended, `otherwise` if the error has no word for it, and returns why.
    async fn failed(
        &self,
        error: &CallError,
        otherwise: Option<&'static str>,
        console: &mut Console,
    ) -> Outcome {
        let (status, word, more) = print::kind(error);
        if let Some(word) = word.or(otherwise) {
            console.say(Printer(self.json).end(word, more)).await?;
        }
        Err(Failure::new(status, format!("{error}{}", self.remedy(error))).into())
    }

    fn remedy(&self, error: &CallError) -> String {
        use broker_streams_client::OpenResult;

        match error {
            CallError::Refused(OpenResult::EndpointNotFound) => {
                let plain =
                    if self.plain { ", and call without --plain a method that has no streams" } else { "" };
                format!("; check the name {:?}{plain}", self.method)
            }
            CallError::Refused(OpenResult::AuthenticationFailed) => {
                "; give a valid --token (without the word Bearer) or --cookie".to_owned()
            }
            CallError::Refused(OpenResult::AuthorizationDeclined) => {
                format!("; {} requires a scope that this user does not have", self.method)
            }
            CallError::Refused(OpenResult::InvalidArguments) => {
                format!(
                    "; check the arguments of {}, and give an --input for each of its inputs",
                    self.method
                )
            }
            CallError::ConnectFailed(why) if why.contains("the server answered 503") => {
                "; it is busy or stopping: try again later".to_owned()
            }
            CallError::ConnectFailed(why) if why.contains("the server answered ") => {
                "; check the path of the URL, and the headers".to_owned()
            }
            CallError::ConnectFailed(_) | CallError::ConnectTimedOut => {
                "; check the host, the port and the path of the URL".to_owned()
            }
            CallError::SocketLost => "; --resume would have gone on".to_owned(),
            _ => String::new(),
        }
    }
}

fn token_of_environment() -> Option<String> {
    std::env::var("BROKER_TOKEN").ok().filter(|token| !token.is_empty())
}

/// Both halves of `NAME=VALUE`. What was given is not shown: it may be the secret alone.
fn pair<'a>(given: &'a str, what: &str, example: &str) -> Result<(&'a str, &'a str), Failure> {
    given
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Failure::usage(format!("{what} is NAME=VALUE, as in {example}")))
}
