//! Inputs: what is sent into a call: a value of the command line, or the lines of a file or of standard input.

use std::{collections::BTreeMap, io, mem};

use broker_streams_client::CallBuilder;
use futures_util::{Stream, stream};
use tokio::{
    fs::File,
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader},
    sync::mpsc,
};

use super::{pair, value::AnyValue};
use crate::{Console, failure::Failure, hidden::Hidden};

/// The longest line: a longer one is refused, not collected.
const LONGEST: u64 = 4 << 20;

/// The inputs of a call, as they were given.
pub(super) struct Inputs {
    inputs: Vec<(String, From)>,
    classes: BTreeMap<String, String>,
    /// Where a line that cannot be sent is reported. This ends the call.
    report: mpsc::Sender<Failure>,
}

enum From {
    Value(AnyValue),
    File(String),
    Standard,
}

type Lines = Box<dyn AsyncBufRead + Unpin + Send>;

impl Inputs {
    pub(super) fn new(
        inputs: &[Hidden],
        classes: &[Hidden],
        report: mpsc::Sender<Failure>,
    ) -> Result<Self, Failure> {
        let mut these = Self { inputs: Vec::new(), classes: BTreeMap::new(), report };
        for class in classes {
            let (name, class) = pair(class, "a --class", "outgoing=Say")?;
            these.classes.insert(name.to_owned(), class.to_owned());
        }
        for input in inputs {
            let (name, values) = pair(input, "an --input", "outgoing=-")?;
            let from = match values {
                "-" if these.inputs.iter().any(|(_, from)| matches!(from, From::Standard)) => {
                    return Err(Failure::usage(format!(
                        "--input {name}: another one reads standard input; give a file"
                    )));
                }
                "-" => From::Standard,
                values if serde_json::from_str::<serde::de::IgnoredAny>(values).is_ok() => {
                    let value = AnyValue::typed(values, these.class(name));
                    From::Value(value.map_err(|wrong| Failure::usage(format!("--input {name}: {wrong}")))?)
                }
                path => From::File(path.to_owned()),
            };
            these.inputs.push((name.to_owned(), from));
        }
        match these.classes.keys().find(|name| !these.inputs.iter().any(|(input, _)| input == *name)) {
            Some(name) => Err(Failure::usage(format!("--class {name}: there is no --input of that name"))),
            None => Ok(these),
        }
    }

    fn class(&self, name: &str) -> Option<&str> {
        self.classes.get(name).map(String::as_str)
    }

    /// Adds them to a call.
    pub(super) async fn open(
        mut self,
        mut call: CallBuilder,
        console: &mut Console,
    ) -> Result<CallBuilder, Failure> {
        for (name, from) in mem::take(&mut self.inputs) {
            let lines: Lines = match from {
                From::Value(value) => {
                    call = call.input(&name, stream::iter([value]));
                    continue;
                }
                From::Standard => mem::replace(&mut console.input, Box::new(tokio::io::empty())),
                From::File(path) => Box::new(BufReader::new(File::open(&path).await.map_err(|error| {
                    // It may be a value with a slip, and that a secret: it is not shown.
                    Failure::usage(format!(
                        "--input {name}: neither JSON nor the path of a file: {error}; give a JSON value, a file with one on each line, or -"
                    ))
                })?)),
            };
            let class = self.class(&name).map(str::to_owned);
            call = call.input(&name, values(lines, name.clone(), class, self.report.clone()));
        }
        Ok(call)
    }
}

/// The values of lines. At one that is wrong it is reported, and nothing else comes.
fn values(
    lines: Lines,
    name: String,
    class: Option<String>,
    report: mpsc::Sender<Failure>,
) -> impl Stream<Item = AnyValue> + Send {
    stream::unfold((lines, 0_u64), move |(mut lines, mut number)| {
        let (name, class, report) = (name.clone(), class.clone(), report.clone());
        async move {
            let wrong = loop {
                number += 1;
                let line = match line(&mut lines).await {
                    Ok(None) => return None,
                    Ok(Some(line)) if line.trim_ascii().is_empty() => continue,
                    Ok(Some(line)) => line,
                    Err(error) => break error.to_string(),
                };
                match str::from_utf8(&line)
                    .map_err(|error| error.to_string())
                    .and_then(|line| AnyValue::typed(line, class.as_deref()))
                {
                    Ok(value) => return Some((value, (lines, number))),
                    Err(wrong) => break wrong,
                }
            };
            let _ = report.send(Failure::usage(format!("--input {name}, line {number}: {wrong}"))).await;
            // The call is about to be cancelled. An end of the input would tell the method that this was all.
            std::future::pending().await
        }
    })
}

/// The next line; `None` at the end.
async fn line(lines: &mut Lines) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if lines.take(LONGEST + 1).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it is longer than {LONGEST} bytes; send it in parts")));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn behind_a_wrong_line_nothing_comes_not_even_the_end() {
        let (report, mut wrong) = mpsc::channel(1);
        let lines: Lines = Box::new(&b"1\n\n2\nx\n3\n"[..]);
        let mut values = std::pin::pin!(values(lines, "a".to_owned(), None, report));
        for number in ["1", "2"] {
            let value = values.next().now_or_never().flatten().expect("a value");
            assert_eq!(&*value.json, number);
        }
        assert!(values.next().now_or_never().is_none(), "an end says that this was all");
        let wrong = wrong.try_recv().expect("a report").to_string();
        assert!(wrong.starts_with("--input a, line 4: not JSON"), "{wrong}");
    }
}
